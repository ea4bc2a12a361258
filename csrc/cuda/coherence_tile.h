#pragma once

// `window_coherence` of the predictions of 2 to 4 modalities over a few classes, an utterance a thread. A block copies
// its logits into shared memory, 16 bytes at a time where they lie so, each row an odd number of words from the next.
//
// The cosine of two vectors does not change when either is divided by its sum, so e^(z - max z) stands for softmax.

#include "cuda/coherence_embeddings_backward.h"

namespace spcl {
namespace on_device {

inline constexpr int64_t kTileColumns = 32;

template <class Stored, int rows>
struct PredictionTile {
  typedef typename Computed<Stored>::Real Real;
  typedef EmbeddingPairs<Stored, rows, 32> Pairs;
  static constexpr int kPiece = 16 / static_cast<int>(sizeof(Stored));
  struct alignas(16) Piece {
    Stored values[kPiece];
  };

  SPCL_HD static constexpr int pitch(int64_t columns) { return static_cast<int>(columns) | 1; }
  SPCL_HD static constexpr int64_t bytes(int threads, int64_t columns) {
    return int64_t{rows} * threads * pitch(columns) * static_cast<int64_t>(sizeof(Real));
  }

  Real* tile;
  int64_t first;
  int count, columns;

  __device__ __forceinline__ Real& at(int m, int row, int column) const {
    return tile[(m * static_cast<int>(blockDim.x) + row) * pitch(columns) + column];
  }

  /// Copies the rows of the block. All threads take part; a barrier has to follow.
  __device__ __forceinline__ void read(const Sources& sources) const {
    const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x), all = count * columns;
    for (int m = 0; m < rows; ++m) {
      const Sources::Source source = sources.modality(m);
      const char* const begin = source.data + first * source.row_stride;
      const bool is_whole = source.class_stride == static_cast<int64_t>(sizeof(Stored)) &&
                            source.row_stride == columns * static_cast<int64_t>(sizeof(Stored)) &&
                            reinterpret_cast<uintptr_t>(begin) % 16 == 0;
      const int pieces = is_whole ? all / kPiece : 0;
      for (int p = thread; p < pieces; p += threads) {
        const Piece piece = reinterpret_cast<const Piece*>(begin)[p];
        int row = p * kPiece / columns, column = p * kPiece - row * columns;
#pragma unroll
        for (int k = 0; k < kPiece; ++k) {
          at(m, row, column) = widened(piece.values[k]);
          if (++column == columns) column = 0, ++row;
        }
      }
      for (int k = pieces * kPiece + thread; k < all; k += threads) {
        const int row = k / columns, column = k - row * columns;
        at(m, row, column) = load<Stored>(begin + row * source.row_stride + column * source.class_stride);
      }
    }
  }

  /// Turns the rows of this thread's utterance into e^(z - max z), and finds their products.
  __device__ __forceinline__ void find(double (&products)[Pairs::kPairs]) const {
    const int row = static_cast<int>(threadIdx.x);
    Real most[rows], sums[Pairs::kPairs] = {};
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      most[m] = at(m, row, 0);
      for (int n = 1; n < columns; ++n) {
        const Real logit = at(m, row, n);
        most[m] = logit > most[m] ? logit : most[m];
      }
    }
    for (int n = 0; n < columns; ++n) {
      Real x[rows];
#pragma unroll
      for (int m = 0; m < rows; ++m) at(m, row, n) = x[m] = exp_of(at(m, row, n) - most[m]);
      int pair = 0;
#pragma unroll
      for (int i = 0; i < rows; ++i) {
#pragma unroll
        for (int j = i; j < rows; ++j, ++pair) sums[pair] = multiply_add(x[i], x[j], sums[pair]);
      }
    }
#pragma unroll
    for (int p = 0; p < Pairs::kPairs; ++p) products[p] = sums[p];
  }

  /// Which vectors take part; `faulty`: one that is present has no softmax.
  __device__ __forceinline__ unsigned judge(const Present& present, const double (&products)[Pairs::kPairs],
                                            bool& faulty) const {
    unsigned usable = 0;
    faulty = false;
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      if (!present.at(m, first + threadIdx.x)) continue;
      // NaN and +Inf, and -Inf everywhere, give a NaN difference to the maximum.
      const double square = products[Pairs::pair(m, m)];
      faulty |= square != square;
      if (square == square) usable |= 1u << m;
    }
    return usable;
  }

  /// Turns the vectors of this thread's utterance into their gradient in the logits.
  __device__ __forceinline__ void combine(const double (&products)[Pairs::kPairs], unsigned usable, double of_c) const {
    const auto of = EmbeddingGradient<Stored, rows, 32>::find(products, usable, of_c);
    const int row = static_cast<int>(threadIdx.x);
    for (int n = 0; n < columns; ++n) {
      Real x[rows], sum = 0;
#pragma unroll
      for (int m = 0; m < rows; ++m) {
        x[m] = (usable >> m & 1) != 0 ? at(m, row, n) : Real(0);  // there may be NaN
        sum += x[m] * of.inverse[m];
      }
#pragma unroll
      for (int m = 0; m < rows; ++m) {
        // The softmax has a second term, e times the sum of e d(loss)/de, and that is 0: lengths do not count.
        at(m, row, n) = x[m] * (of.outer[m] * multiply_add(-of.along[m], x[m] * of.inverse[m], sum));
      }
    }
  }

  /// Writes the rows of the block, contiguous. All threads take part, after a barrier.
  __device__ __forceinline__ void write(const GradientRows<Stored>& gradient) const {
    for (int m = 0; m < rows; ++m) {
      Stored* const begin = gradient.row(m, first);
      for (int k = static_cast<int>(threadIdx.x); k < count * columns; k += static_cast<int>(blockDim.x)) {
        const int row = k / columns;
        begin[k] = narrowed<Stored>(at(m, row, k - row * columns));
      }
    }
  }
};

template <class Stored, int rows>
__device__ __forceinline__ PredictionTile<Stored, rows> tile_of_block(const CoherenceRows& input,
                                                                      typename Computed<Stored>::Real* memory) {
  const int64_t first = int64_t{blockIdx.x} * blockDim.x, left = input.sources.rows - first;
  return {memory, first, static_cast<int>(left < blockDim.x ? left : blockDim.x),
          static_cast<int>(input.sources.columns)};
}

template <class Stored, int rows>
__global__ void __launch_bounds__(128, 6)
    coherence_tile_fwd_kernel(const __grid_constant__ CoherenceRows input, double* c) {
  typedef PredictionTile<Stored, rows> Tile;
  SPCL_DYNAMIC_SHARED(typename Tile::Real, memory);
  const Tile tile = tile_of_block<Stored, rows>(input, memory);
  tile.read(input.sources);
  __syncthreads();
  if (static_cast<int>(threadIdx.x) >= tile.count) return;
  double products[Tile::Pairs::kPairs];
  tile.find(products);
  bool faulty;
  const unsigned usable = tile.judge(input.present, products, faulty);
  c[tile.first + threadIdx.x] = faulty ? faulty_coherence() : Tile::Pairs::coherence(products, usable);
}

template <class Stored, int rows>
__global__ void __launch_bounds__(128, sizeof(Stored) == 8 ? 5 : 6)
    coherence_tile_bwd_kernel(const __grid_constant__ CoherenceRows input, const double* of_c,
                              GradientRows<Stored> gradient) {
  typedef PredictionTile<Stored, rows> Tile;
  SPCL_DYNAMIC_SHARED(typename Tile::Real, memory);
  const Tile tile = tile_of_block<Stored, rows>(input, memory);
  tile.read(input.sources);
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < tile.count) {
    double products[Tile::Pairs::kPairs];
    tile.find(products);
    bool faulty;
    const unsigned usable = tile.judge(input.present, products, faulty);
    tile.combine(products, faulty ? 0 : usable, of_c[tile.first + threadIdx.x]);
  }
  __syncthreads();
  tile.write(gradient);
}

}  // namespace on_device
}  // namespace spcl
