#pragma once

// The products of the vectors of an utterance with each other, by 8 or 32 lanes that read 16 bytes at a time.
//
// The order of the sums hangs on the number of features alone, not on the type and not on how rows lie in memory. Four
// neighbouring elements are a chunk. Of 2 n chunks, a lane k < n / 2 adds up 2 k and 2 k + n, and lane k + n / 2 the
// next one after each. 16 bytes are one chunk of float32; of halves they are two neighbours, one of which lanes n / 2
// apart exchange.

#include <type_traits>

#include "cuda/math.h"
#include "cuda/window_coherence.h"

namespace spcl {
namespace on_device {

/// Elements after which float32 sums are added to float64 ones: the error does not grow with the length of a row.
inline constexpr int64_t kDotElements = 1024;

/// The rows of an utterance, of tensors that are apart.
template <int rows>
struct UtteranceRows {
  const char* data[rows];
  int64_t stride[rows];  // of the elements, in bytes

  __device__ __forceinline__ UtteranceRows(const Sources& sources, int64_t t) {
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      data[m] = sources.sources[m].data + t * sources.sources[m].row_stride;
      stride[m] = sources.sources[m].class_stride;
    }
  }
};

/// Whether all rows, and nothing else, can be read 16 bytes at a time.
template <class Stored>
bool rows_are_aligned(const Sources& sources) {
  constexpr auto size = static_cast<int64_t>(sizeof(Stored));
  bool aligned = sources.columns * size % 16 == 0;
  for (int k = 0; k < sources.count; ++k) {
    const Sources::Source& source = sources.sources[k];
    aligned &= source.class_stride == size && source.row_stride % 16 == 0 &&
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
    if constexpr (kIsHalf) return 8 * lane;
    const int chunk = lane % (lanes / 2) * 2 + lane / (lanes / 2) + piece * kPiece / 4 * lanes;
    return 4 * chunk + piece * kPiece % 4;
  }

  /// Eight elements of a row; 0 past its last.
  struct alignas(16) Loaded {
    Stored values[8];
  };
  __device__ __forceinline__ static Loaded load_row(const char* row, int64_t stride, int64_t step, int64_t columns,
                                                    bool aligned, int lane) {
    Loaded loaded{};
    if (aligned) {
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        const int64_t f = step + first(lane, piece);
        if (f < columns) reinterpret_cast<Whole*>(&loaded)[piece] = reinterpret_cast<const Whole*>(row)[f / kPiece];
      }
    } else {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const int64_t f = step + first(lane, k / kPiece) + k % kPiece;
        if (f < columns) loaded.values[k] = *reinterpret_cast<const Stored*>(row + f * stride);
      }
    }
    return loaded;
  }

  __device__ __forceinline__ static void widen(const Loaded& loaded, Real (&x)[8]) {
#pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = widened(loaded.values[k]);
  }

  /// Writes eight elements of a contiguous row.
  __device__ __forceinline__ static void store_row(Stored* row, int64_t step, int64_t columns, bool aligned, int lane,
                                                   const Real (&x)[8]) {
    if (aligned) {
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        const int64_t f = step + first(lane, piece);
        Whole stored;
#pragma unroll
        for (int k = 0; k < kPiece; ++k) stored.values[k] = narrowed<Stored>(x[piece * kPiece + k]);
        if (f < columns) reinterpret_cast<Whole*>(row)[f / kPiece] = stored;
      }
    } else {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const int64_t f = step + first(lane, k / kPiece) + k % kPiece;
        if (f < columns) row[f] = narrowed<Stored>(x[k]);
      }
    }
  }

  /// Halves as they are added up. All lanes of the warp take part.
  __device__ __forceinline__ static void exchange(int lane, Loaded& loaded) {
    if constexpr (kIsHalf) {
      const bool upper = lane >= lanes / 2;
      uint4 words = reinterpret_cast<const uint4&>(loaded);
      const unsigned low = __shfl_xor_sync(kWholeWarp, upper ? words.x : words.z, lanes / 2);
      const unsigned high = __shfl_xor_sync(kWholeWarp, upper ? words.y : words.w, lanes / 2);
      words = upper ? make_uint4(low, high, words.z, words.w) : make_uint4(words.x, words.y, low, high);
      reinterpret_cast<uint4&>(loaded) = words;
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
  __device__ __forceinline__ static void find(const UtteranceRows<rows>& row, int64_t columns, bool aligned,
                                              bool writes, double* products, int pitch) {
    const int lane = static_cast<int>(threadIdx.x) % lanes;
    double totals[kPairs] = {};
#pragma unroll 1
    for (int64_t piece = 0; piece < columns; piece += kDotElements) {
      Real sums[kPairs] = {};
      const int64_t end = columns - piece < kDotElements ? columns : piece + kDotElements;
#pragma unroll 1
      for (int64_t step = piece; step < end; step += Elements::kStep) add_step(row, columns, aligned, step, lane, sums);
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) totals[pair] += sums[pair];
    }
    typedef SharedSums<lanes, kPairs> Sums;
    int first = 0, count = kPairs;
    Sums::add(totals, lane, first, count);
    if (!writes || (lane & Sums::kIdle) != 0) return;
#pragma unroll
    for (int k = 0; k < Sums::kLeft; ++k) {
      if (k < count) products[(first + k) * pitch] = totals[k];
    }
  }

 private:
  __device__ __forceinline__ static void add_step(const UtteranceRows<rows>& row, int64_t columns, bool aligned,
                                                  int64_t step, int lane, Real (&sums)[kPairs]) {
    typename Elements::Loaded loaded[rows];
    Real x[rows][8];
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      loaded[m] = Elements::load_row(row.data[m], row.stride[m], step, columns, aligned, lane);
    }
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      Elements::exchange(lane, loaded[m]);
      Elements::widen(loaded[m], x[m]);
    }
    int pair = 0;
#pragma unroll
    for (int i = 0; i < rows; ++i) {
#pragma unroll
      for (int j = i; j < rows; ++j, ++pair) {
#pragma unroll
        for (int k = 0; k < 8; ++k) sums[pair] = multiply_add(x[i][k], x[j][k], sums[pair]);
      }
    }
  }
};

}  // namespace on_device
}  // namespace spcl
