#pragma once

// The products of the vectors of an utterance with each other, by 8 or 32 lanes that read 16 bytes at a time.
//
// The order of the sums hangs on the number of features alone, not on the type and not on how rows lie in memory.
// Four neighbouring elements are a chunk; chunk k goes to sum k % (2 lanes). A lane holds two of these sums, `lanes`
// apart, of 16-byte chunks, or next to each other where 16 bytes are two chunks of halves.

#include <type_traits>

#include "cuda/math.h"
#include "cuda/window_coherence.h"

namespace spcl {
namespace on_device {

/// Elements after which float32 sums are added to float64 ones: the error does not grow with the length of a row.
inline constexpr int64_t kDotElements = 1024;

/// The rows of an utterance.
template <int rows>
struct UtteranceRows {
  const char* data[rows];
  int64_t stride[rows];  // of the elements, in bytes

  __device__ __forceinline__ UtteranceRows(const Sources& sources, int64_t t) {
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      const Sources::Source source = sources.modality(m);
      data[m] = source.data + t * source.row_stride;
      stride[m] = source.class_stride;
    }
  }
};

/// Whether all rows can be read 16 bytes at a time.
template <class Stored>
bool rows_are_aligned(const Sources& sources) {
  bool aligned = sources.modality_stride % 16 == 0;
  for (int k = 0; k < sources.count; ++k) {
    const Sources::Source& source = sources.sources[k];
    aligned &= source.class_stride == static_cast<int64_t>(sizeof(Stored)) && source.row_stride % 16 == 0 &&
               reinterpret_cast<uintptr_t>(source.data) % 16 == 0;
  }
  return aligned;
}

/// Which elements of a row a lane reads in a step of 8 `lanes` elements.
template <class Stored, int lanes>
struct LaneElements {
  typedef typename Computed<Stored>::Real Real;
  static constexpr int kStep = 8 * lanes;
  static constexpr bool kIsHalf = sizeof(Stored) == 2;
  static constexpr int kPiece = 16 / static_cast<int>(sizeof(Stored));  // elements of 16 bytes
  static constexpr int kPieces = 8 / kPiece;

  /// The first element of piece `piece` of a lane, within a step.
  __device__ __forceinline__ static int first(int lane, int piece) {
    const int slot = piece * kPiece / 4;
    return kIsHalf ? 8 * lane : 4 * (lane + slot * lanes) + piece * kPiece % 4;
  }

  /// Eight elements; 0 past the last of the row.
  template <bool aligned>
  __device__ __forceinline__ static void load_row(const char* row, int64_t stride, int64_t step, int64_t columns,
                                                  int lane, Real (&x)[8]) {
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const int64_t f = step + first(lane, piece);
      if (aligned && f + kPiece <= columns) {
        const auto stored = *reinterpret_cast<const Whole*>(row + f * static_cast<int64_t>(sizeof(Stored)));
#pragma unroll
        for (int k = 0; k < kPiece; ++k) x[piece * kPiece + k] = widened(stored.values[k]);
      } else {
#pragma unroll
        for (int k = 0; k < kPiece; ++k) {
          const bool inside = f + k < columns;
          x[piece * kPiece + k] = inside ? load<Stored>(row + (f + k) * stride) : Real(0);
        }
      }
    }
  }

  /// Writes eight elements of a contiguous row.
  __device__ __forceinline__ static void store_row(Stored* row, int64_t step, int64_t columns, bool aligned, int lane,
                                                   const Real (&x)[8]) {
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const int64_t f = step + first(lane, piece);
      if (aligned && f + kPiece <= columns) {
        Whole stored;
#pragma unroll
        for (int k = 0; k < kPiece; ++k) stored.values[k] = narrowed<Stored>(x[piece * kPiece + k]);
        *reinterpret_cast<Whole*>(row + f) = stored;
      } else {
#pragma unroll
        for (int k = 0; k < kPiece; ++k) {
          if (f + k < columns) row[f + k] = narrowed<Stored>(x[piece * kPiece + k]);
        }
      }
    }
  }

 private:
  struct alignas(16) Whole {
    Stored values[kPiece];
  };
};

/// Sums of `size` numbers over `lanes` lanes, shared out: at each step a lane keeps one half of its numbers and gives
/// the other half away, so that there are fewer exchanges than numbers.
template <int lanes, int size, int half = lanes / 2>
struct SharedSums {
  static constexpr int kKept = half == 0 ? size : (size + 1) / 2;
  static constexpr bool kHalves = half > 0 && size > 1;
  typedef SharedSums<lanes, kHalves ? kKept : size, half / 2> Next;
  static constexpr int kLeft = Next::kLeft;                         // numbers that stay with a lane
  static constexpr int kIdle = Next::kIdle | (kHalves ? 0 : half);  // bits of lanes that have the same numbers

  /// Number k of the lane's first kLeft numbers ends as the sum of number `first + k`, where k < `count`.
  __device__ __forceinline__ static void add(double* values, int lane, int& first, int& count) {
    const bool upper = (lane & half) != 0;
    if constexpr (kHalves) {
#pragma unroll
      for (int k = 0; k < kKept; ++k) {
        const double high = k + kKept < size ? values[k + kKept] : 0;
        const double kept = upper ? high : values[k], given = upper ? values[k] : high;
        values[k] = kept + __shfl_xor_sync(kWholeWarp, given, half);
      }
      first += upper ? kKept : 0;
      count = upper ? count - kKept : (count < kKept ? count : kKept);
    } else {
#pragma unroll
      for (int k = 0; k < size; ++k) values[k] += __shfl_xor_sync(kWholeWarp, values[k], half);
    }
    Next::add(values, lane, first, count);
  }
};
template <int lanes, int size>
struct SharedSums<lanes, size, 0> {
  static constexpr int kLeft = size;
  static constexpr int kIdle = 0;
  __device__ __forceinline__ static void add(double*, int, int&, int&) {}
};

template <class Stored, int rows, int lanes>
struct CoherenceProducts {
  typedef typename Computed<Stored>::Real Real;
  typedef LaneElements<Stored, lanes> Elements;
  static constexpr int kPairs = rows * (rows + 1) / 2;

  /// Finds the products of the rows i <= j and writes each to `products[pair * pitch]`. Every lane of the warp takes
  /// part; those of a group of `lanes` have the same rows. Only where `writes`, which a group shares, is it written.
  template <bool aligned>
  __device__ __forceinline__ static void find(const UtteranceRows<rows>& row, int64_t columns, bool writes,
                                              double* products, int pitch) {
    const int lane = static_cast<int>(threadIdx.x) % lanes;
    double totals[2][kPairs] = {};
    for (int64_t piece = 0; piece < columns; piece += kDotElements) {
      Real sums[2][kPairs] = {};
      const int64_t end = columns - piece < kDotElements ? columns : piece + kDotElements;
      for (int64_t step = piece; step < end; step += Elements::kStep) {
        Real x[rows][8];
#pragma unroll
        for (int m = 0; m < rows; ++m) {
          Elements::template load_row<aligned>(row.data[m], row.stride[m], step, columns, lane, x[m]);
        }
#pragma unroll
        for (int slot = 0; slot < 2; ++slot) {
          int pair = 0;
#pragma unroll
          for (int i = 0; i < rows; ++i) {
#pragma unroll
            for (int j = i; j < rows; ++j, ++pair) {
#pragma unroll
              for (int k = 0; k < 4; ++k) {
                sums[slot][pair] = multiply_add(x[i][4 * slot + k], x[j][4 * slot + k], sums[slot][pair]);
              }
            }
          }
        }
      }
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        totals[0][pair] += sums[0][pair];
        totals[1][pair] += sums[1][pair];
      }
    }
    typedef SharedSums<lanes, kPairs> Sums;
    int first = 0, count = kPairs;
    if constexpr (Elements::kIsHalf) {  // the two sums of a lane are neighbours: they are added last
      Sums::add(totals[0], lane, first, count);
      first = 0, count = kPairs;
      Sums::add(totals[1], lane, first, count);
    }
    constexpr int added = Elements::kIsHalf ? Sums::kLeft : kPairs;
#pragma unroll
    for (int pair = 0; pair < added; ++pair) totals[0][pair] += totals[1][pair];
    if constexpr (!Elements::kIsHalf) Sums::add(totals[0], lane, first, count);
    if (!writes || (lane & Sums::kIdle) != 0) return;
#pragma unroll
    for (int k = 0; k < Sums::kLeft; ++k) {
      if (k < count) products[(first + k) * pitch] = totals[0][k];
    }
  }
};

}  // namespace on_device
}  // namespace spcl
