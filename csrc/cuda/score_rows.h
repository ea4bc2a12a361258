#pragma once

// How the kernels of modality_scores and of its gradient share out rows. A row is scored in the same way whatever its
// strides are; the number of its classes alone decides how many lanes work on it.

#include <type_traits>

#include "cuda/math.h"
#include "cuda/modality_scores.h"
#include "cuda/reduce.h"
#include "cuda/row_tile.h"

namespace spcl {
namespace on_device {

constexpr int kScoreThreads = 256;
/// Rows of up to so many classes are in the registers of one thread.
constexpr int kFewClasses = 8;
/// Shared memory that a block of the tile kernels fills at once where it can: eight blocks run on a multiprocessor.
constexpr int64_t kStagedBytes = 26 * 1024;
/// Blocks for the modalities of the same rows; those past them take several.
constexpr int64_t kMostAcross = 16;

/// Calls `body` with the number of classes as a type.
template <class Body>
void with_few_classes(int64_t classes, const Body& body) {
  switch (classes) {
    case 1:
      return body(std::integral_constant<int, 1>{});
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 3:
      return body(std::integral_constant<int, 3>{});
    case 4:
      return body(std::integral_constant<int, 4>{});
    case 5:
      return body(std::integral_constant<int, 5>{});
    case 6:
      return body(std::integral_constant<int, 6>{});
    case 7:
      return body(std::integral_constant<int, 7>{});
    default:
      return body(std::integral_constant<int, kFewClasses>{});
  }
}

/// Calls `body` with the lanes that share a row of more classes.
template <class Body>
void with_lanes(int64_t classes, const Body& body) {
  if (classes <= 32) return body(std::integral_constant<int, 2>{});
  if (classes <= 128) return body(std::integral_constant<int, 8>{});
  if (classes <= 512) return body(std::integral_constant<int, 32>{});
  return body(std::integral_constant<int, kScoreThreads>{});
}

/// Where the rows of each modality begin, for the tile kernels.
struct TileSources {
  const char* data[kMostSources];
  bool are_aligned;  // to 16 bytes
};

/// Whether the rows of all modalities can be read through tiles; where they begin.
template <class Stored, int classes>
bool fits_tiles(const Sources& logits, TileSources& tiles) {
  using Tile = RowTile<Stored, classes>;
  if (logits.modalities > kMostSources) return false;
  tiles.are_aligned = true;
  for (int64_t m = 0; m < logits.modalities; ++m) {
    const Sources::Source source = logits.modality(m);
    if (!Tile::fits(source.data, source.row_stride, source.class_stride)) return false;
    tiles.data[m] = source.data;
    tiles.are_aligned &= reinterpret_cast<uintptr_t>(source.data) % 16 == 0;
  }
  return true;
}

/// Modalities whose tiles a block fills at once.
template <class Stored, int classes>
int staged_modalities(int64_t modalities) {
  constexpr int64_t fitting = kStagedBytes / RowTile<Stored, classes>::bytes(kScoreThreads);
  constexpr int64_t most = fitting > 1 ? fitting : 1;
  return static_cast<int>(most < modalities ? most : modalities);
}

/// What a block of a tile kernel takes: its rows, and as many modalities as are staged. blockIdx.x goes over rows,
/// blockIdx.y over modalities.
template <class Tile>
struct TileBlock {
  int64_t begin;
  int rows, own;     // own: the row of this thread, from `begin`
  int first, count;  // modalities

  __device__ __forceinline__ TileBlock(int64_t all_rows, int modalities, int staged)
      : begin(int64_t{blockIdx.x} * kScoreThreads),
        rows(static_cast<int>(min(int64_t{kScoreThreads}, all_rows - begin))),
        own(static_cast<int>(threadIdx.x)),
        first(static_cast<int>(blockIdx.y) * staged),
        count(min(staged, modalities - first)) {}

  __device__ __forceinline__ int64_t row() const { return begin + own; }

  /// Starts to fill the tiles. A block begins a multiple of 16 bytes behind its modality.
  __device__ __forceinline__ void start_copies(const TileSources& sources, char* tiles) const {
    const int64_t start = begin * Tile::kRowBytes;
    if (sources.are_aligned && rows == kScoreThreads) {
#pragma unroll 1
      for (int k = 0; k < count; ++k) {
        Tile::template start_whole_copy<kScoreThreads>(sources.data[first + k] + start, tile(tiles, k));
      }
    } else {
#pragma unroll 1
      for (int k = 0; k < count; ++k) {
        Tile::template start_copy<kScoreThreads>(sources.data[first + k] + start, rows, tile(tiles, k));
      }
    }
  }
  __device__ __forceinline__ static char* tile(char* tiles, int k) { return tiles + k * Tile::bytes(kScoreThreads); }

  /// The modalities that are scored in a row of this label, the k-th as bit k: at most 32 of them.
  __device__ __forceinline__ uint32_t scored(const Present& present, int32_t label) const {
    uint32_t bits = label >= 0 ? ~0u : 0;
    if (present.data == nullptr) return bits;
#pragma unroll 1
    for (int k = 0; k < count; ++k) {
      if (!present.at(first + k, row())) bits &= ~(1u << k);
    }
    return bits;
  }
};

/// A row of numbers, read by the `lanes` lanes that share it, in steps of kStep classes: every lane takes pieces of
/// neighbouring classes as its `values`, 16 bytes at a time where they lie so. Which lane has which class depends
/// neither on how they lie nor, of types that are computed alike, on the type.
template <class Stored, int lanes>
struct SharedRow {
  typedef typename Computed<Stored>::Real Real;
  static constexpr int kSize = static_cast<int>(sizeof(Stored));
  static constexpr int kPiece = kSize == 8 ? 2 : 8;
  static constexpr int kPieces = kSize == 8 ? 4 : 2;
  static constexpr int kValues = kPiece * kPieces;
  static constexpr int kLoads = kPiece * kSize / 16;  // of a piece
  static constexpr int64_t kStep = int64_t{lanes} * kValues;

  const char* data;
  int64_t class_stride, classes;
  int lane;

  __device__ __forceinline__ SharedRow(const Sources::Source& source, int64_t row, int64_t classes_, int lane_)
      : data(source.data + row * source.row_stride),
        class_stride(source.class_stride),
        classes(classes_),
        lane(lane_) {}

  __device__ __forceinline__ bool is_one_step() const { return classes <= kStep; }
  /// Whether any lane has a class in piece `piece` of the step at `first`.
  __device__ __forceinline__ bool has_piece(int64_t first, int piece) const {
    return first + piece * lanes * kPiece < classes;
  }
  __device__ __forceinline__ int64_t class_at(int64_t first, int piece) const {
    return first + (piece * lanes + lane) * kPiece;
  }
  __device__ __forceinline__ Real at(int64_t c) const { return load<Stored>(data + c * class_stride); }

  /// The lane's classes of the step at `first`; -Inf past the last one.
  __device__ __forceinline__ void read(int64_t first, Real* values) const {
    const bool is_aligned = class_stride == kSize && reinterpret_cast<uintptr_t>(data) % 16 == 0;
    alignas(16) Stored stored[kValues];
    if (is_aligned && first + kStep <= classes) {
#pragma unroll
      for (int p = 0; p < kPieces; ++p) {
        copy_piece(data + class_at(first, p) * kSize, stored + p * kPiece);
      }
#pragma unroll
      for (int k = 0; k < kValues; ++k) values[k] = widened(stored[k]);
      return;
    }
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int64_t c = class_at(first, p);
      if (is_aligned && c + kPiece <= classes) {
        copy_piece(data + c * kSize, stored + p * kPiece);
#pragma unroll
        for (int k = 0; k < kPiece; ++k) values[p * kPiece + k] = widened(stored[p * kPiece + k]);
      } else {
#pragma unroll
        for (int k = 0; k < kPiece; ++k) {
          values[p * kPiece + k] = c + k < classes ? at(c + k) : -infinity_of<Real>();
        }
      }
    }
  }

  /// Calls `body(k, c)` for the place in `values` and the class of each of the lane's numbers in the step at `first`.
  /// Pieces in which no lane has a class are left out.
  template <class Body>
  __device__ __forceinline__ void for_values(int64_t first, const Body& body) const {
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      if (!has_piece(first, p)) break;
#pragma unroll
      for (int k = 0; k < kPiece; ++k) body(p * kPiece + k, class_at(first, p) + k);
    }
  }

  /// Writes what became of the values of the step at `first` to the contiguous row `out`.
  __device__ __forceinline__ void write(int64_t first, const Real* values, char* out) const {
    const bool is_aligned = reinterpret_cast<uintptr_t>(out) % 16 == 0;
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      if (!has_piece(first, p)) break;
      alignas(16) Stored stored[kPiece];
#pragma unroll
      for (int k = 0; k < kPiece; ++k) stored[k] = narrowed<Stored>(values[p * kPiece + k]);
      const int64_t c = class_at(first, p);
      if (is_aligned && c + kPiece <= classes) {
        copy_piece(stored, out + c * kSize);
      } else {
#pragma unroll
        for (int k = 0; k < kPiece; ++k) {
          if (c + k < classes) reinterpret_cast<Stored*>(out)[c + k] = stored[k];
        }
      }
    }
  }

 private:
  __device__ __forceinline__ static void copy_piece(const void* from, void* to) {
#pragma unroll
    for (int k = 0; k < kLoads; ++k) static_cast<uint4*>(to)[k] = static_cast<const uint4*>(from)[k];
  }
};

/// Rows that a block of groups of `lanes` lanes has at a time.
template <int lanes>
inline constexpr int kRowsOfBlock = kScoreThreads / lanes;

/// The grid of such blocks: over rows, and over modalities.
template <int lanes>
dim3 grid_of_groups(const Sources& logits) {
  return dim3(static_cast<unsigned>(parts_of(logits.rows, kRowsOfBlock<lanes>)),
              grid_of(logits.modalities, kMostAcross));
}

/// Sums that the lanes of a row kept by Kahan's rule, without the error that each knows of, added in double.
template <int lanes, class Real>
__device__ __forceinline__ Real sum_over_lanes(Real sum, Real error) {
  return static_cast<Real>(sum_of_group<lanes>(static_cast<double>(sum) - static_cast<double>(error)));
}

}  // namespace on_device
}  // namespace spcl
