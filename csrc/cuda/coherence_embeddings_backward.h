#pragma once

// The gradient of `window_coherence` in embeddings of 2 to 4 modalities. A warp reads its few utterances twice: for
// their products, and, from the cache, for their combinations.

#include "cuda/coherence_embeddings.h"

namespace spcl {
namespace on_device {

/// With the unit vectors u and their sum S, the gradient in vector m is outer (S - along u_m).
template <class Real, int rows>
struct UnitCoefficients {
  Real inverse[rows];  // 1 / norm, 0 for vectors that are not usable
  Real along[rows];    // u_m S
  Real outer[rows];    // d(loss)/d(c) / pairs / norm

  __device__ __forceinline__ UnitCoefficients from(int lane) const {
    UnitCoefficients result;
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      result.inverse[m] = __shfl_sync(kWholeWarp, inverse[m], lane);
      result.along[m] = __shfl_sync(kWholeWarp, along[m], lane);
      result.outer[m] = __shfl_sync(kWholeWarp, outer[m], lane);
    }
    return result;
  }
};

template <class Stored, int rows, int lanes>
struct EmbeddingGradient {
  typedef EmbeddingPairs<Stored, rows, lanes> Pairs;
  typedef typename Pairs::Real Real;
  typedef LaneElements<Stored, lanes> Elements;
  typedef UnitCoefficients<Real, rows> Coefficients;

  __device__ __forceinline__ static Coefficients find(const double (&products)[Pairs::kPairs], unsigned usable,
                                                      double of_c) {
    double norm[rows], along[rows];
    int number = 0;
    Pairs::find_norms(products, usable, norm);
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      along[m] = 1;
      number += static_cast<int>(usable >> m & 1);
    }
#pragma unroll
    for (int i = 0; i < rows; ++i) {
#pragma unroll
      for (int j = i + 1; j < rows; ++j) {
        if ((usable >> i & usable >> j & 1) == 0) continue;
        const double both = cosine(products[Pairs::pair(i, j)], norm[i], norm[j]);
        along[i] += both;
        along[j] += both;
      }
    }
    const double share = number >= 2 ? of_c / (number * (number - 1) / 2) : 0;
    Coefficients result;
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      const double inverse = (usable >> m & 1) != 0 ? 1 / norm[m] : 0;
      result.inverse[m] = static_cast<Real>(inverse);
      result.along[m] = static_cast<Real>(along[m]);
      result.outer[m] = static_cast<Real>(share * inverse);
    }
    return result;
  }

  /// Writes the gradient of one utterance; done by the lanes of a group.
  __device__ __forceinline__ static void write(const UtteranceRows<rows>& row, int64_t columns, unsigned usable,
                                               const Coefficients& of, const GradientRows<Stored>& gradient, int64_t t,
                                               bool aligned, bool gradient_is_aligned) {
    const int lane = static_cast<int>(threadIdx.x) % lanes;
#pragma unroll 1
    for (int64_t step = 0; step < columns; step += Elements::kStep) {
      typename Elements::Loaded loaded[rows];
      Real x[rows][8], sum[8] = {};
#pragma unroll
      for (int m = 0; m < rows; ++m) {
        loaded[m] = Elements::load_row(row.data[m], row.stride[m], step, columns, aligned, lane);
      }
#pragma unroll
      for (int m = 0; m < rows; ++m) {
        Elements::widen(loaded[m], x[m]);
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          x[m][k] = (usable >> m & 1) != 0 ? x[m][k] * of.inverse[m] : Real(0);  // there may be NaN
          sum[k] += x[m][k];
        }
      }
#pragma unroll
      for (int m = 0; m < rows; ++m) {
#pragma unroll
        for (int k = 0; k < 8; ++k) x[m][k] = of.outer[m] * multiply_add(-of.along[m], x[m][k], sum[k]);
        Elements::store_row(gradient.row(m, t), step, columns, gradient_is_aligned, lane, x[m]);
      }
    }
  }
};

template <class Stored, int rows, int lanes>
__global__ void __launch_bounds__(kCoherenceThreads, (kBackwardBlocks<Stored, rows>))
    coherence_embeddings_bwd_kernel(const __grid_constant__ CoherenceRows input, bool aligned, int per_warp,
                                    const double* of_c, GradientRows<Stored> gradient, bool gradient_is_aligned) {
  typedef EmbeddingGradient<Stored, rows, lanes> Gradient;
  typedef typename Gradient::Pairs Pairs;
  using Products = double[kCoherenceWarps][Pairs::kPairs * 32];
  SPCL_SHARED(Products, shared);
  using Memory = double[kCoherenceWarps][3 * rows];
  SPCL_SHARED(Memory, memory);
  const WarpShare share(input.sources.rows, per_warp);
  if (share.count <= 0) return;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  double products[Pairs::kPairs];
  Pairs::find(input, aligned, share, shared[warp], products);
  const VectorBits bits = Pairs::judge(input, share, products);
  const double mine = lane < share.count ? of_c[share.first + lane] : 0;
  const auto coefficients = Gradient::find(products, bits.usable, mine);
#pragma unroll 1
  for (int k = lane / lanes; k - lane / lanes < share.count; k += Pairs::kGroups) {
    const int from = k < share.count ? k : 0;
    const auto of = coefficients.from(from);
    const unsigned usable = __shfl_sync(kWholeWarp, bits.usable, from);
    const unsigned strange = __shfl_sync(kWholeWarp, bits.strange, from);
    if (k >= share.count || strange != 0) continue;
    const UtteranceRows<rows> row(input.sources, share.first + k);
    Gradient::write(row, input.sources.columns, usable, of, gradient, share.first + k, aligned, gradient_is_aligned);
  }
  Pairs::each_of(bits.strange != 0, [&](int k) {
    const double given = __shfl_sync(kWholeWarp, mine, k);
    WarpUtterance<Stored, false>(input, share.first + k, memory[warp]).write_gradient(given, gradient);
  });
}

}  // namespace on_device
}  // namespace spcl
