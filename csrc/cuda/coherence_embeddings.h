#pragma once

// `window_coherence` of embeddings of 2 to 4 modalities: a warp finds the products of some utterances, one after the
// other or four at a time, and then each of its lanes finishes one of them.

#include "cuda/coherence_products.h"
#include "cuda/coherence_utterance.h"

namespace spcl {
namespace on_device {

inline constexpr int kCoherenceThreads = 128;
inline constexpr int kCoherenceWarps = kCoherenceThreads / 32;
/// Blocks that a multiprocessor has registers for, in the forward and in the backward pass.
template <class Stored, int rows>
inline constexpr int kForwardBlocks = sizeof(Stored) == 8 ? 7 - rows : (rows == 4 ? 3 : 12 - 2 * rows);
template <class Stored, int rows>
inline constexpr int kBackwardBlocks = sizeof(Stored) == 8 ? 6 - rows : 7 - rows;

/// The utterances of a warp: at most 32.
struct WarpShare {
  int64_t first;
  int count;

  __device__ __forceinline__ WarpShare(int64_t utterances, int per_warp) {
    first = (int64_t{blockIdx.x} * kCoherenceWarps + threadIdx.x / 32) * per_warp;
    const int64_t left = utterances - first;
    count = static_cast<int>(left < per_warp ? left : per_warp);
  }
};

/// What a lane knows of its utterance: a bit for each modality.
struct VectorBits {
  unsigned usable;   // present, finite, not zero
  unsigned strange;  // a squared norm that is not in its range
};

template <class Stored, int rows, int lanes>
struct EmbeddingPairs {
  typedef typename Computed<Stored>::Real Real;
  static constexpr int kPairs = rows * (rows + 1) / 2;
  static constexpr int kGroups = 32 / lanes;

  __device__ __forceinline__ static constexpr int pair(int i, int j) { return i * rows - i * (i - 1) / 2 + (j - i); }

  /// The products of every utterance of the warp, [kPairs][32] in shared memory; lane k gets those of utterance k.
  __device__ __forceinline__ static void find(const CoherenceRows& input, bool aligned, const WarpShare& share,
                                              double* shared, double (&products)[kPairs]) {
    typedef CoherenceProducts<Stored, rows, lanes> Products;
    const int lane = static_cast<int>(threadIdx.x % 32), group = lane / lanes;
    const int64_t columns = input.sources.columns;
#pragma unroll 1
    for (int k = group; k - group < share.count; k += kGroups) {
      const bool is_mine = k < share.count;
      const UtteranceRows<rows> row(input.sources, share.first + (is_mine ? k : 0));
      Products::find(row, columns, aligned, is_mine, shared + k, 32);
    }
    __syncwarp();
#pragma unroll
    for (int p = 0; p < kPairs; ++p) products[p] = lane < share.count ? shared[p * 32 + lane] : 0;
  }

  /// Whether row t of modality m is exactly zero; the whole warp looks.
  __device__ __forceinline__ static bool is_zero(const CoherenceRows& input, int m, int64_t t) {
    const Sources::Source source = input.sources.modality(m);
    const char* const row = source.data + t * source.row_stride;
    bool found = false;
#pragma unroll 1
    for (int64_t f = threadIdx.x % 32; f < input.sources.columns; f += 32) {
      found |= load<Stored>(row + f * source.class_stride) != 0;
    }
    return !__any_sync(kWholeWarp, found);
  }

  __device__ __forceinline__ static VectorBits judge(const CoherenceRows& input, const WarpShare& share,
                                                     const double (&products)[kPairs]) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    VectorBits bits{0, 0};
#pragma unroll
    for (int m = 0; m < rows; ++m) {
      if (lane >= share.count || !input.present.at(m, share.first + lane)) continue;
      bits.usable |= 1u << m;
      if (!is_in_range(products[pair(m, m)], std::is_same_v<Real, double>)) bits.strange |= 1u << m;
    }
    // Zeros stand for what is missing in many corpora, so they are looked for first.
    each_of(bits.strange != 0, [&](int k) {
      const unsigned strange = __shfl_sync(kWholeWarp, bits.strange, k);
      unsigned zeros = 0;
#pragma unroll 1
      for (int m = 0; m < rows; ++m) {
        if ((strange >> m & 1) != 0 && is_zero(input, m, share.first + k)) zeros |= 1u << m;
      }
      if (lane == k) bits = {bits.usable & ~zeros, bits.strange & ~zeros};
    });
    return bits;
  }

  /// Calls `work(k)`, in the whole warp, for every lane k whose `condition` holds.
  template <class Work>
  __device__ __forceinline__ static void each_of(bool condition, const Work& work) {
#pragma unroll 1
    for (unsigned left = __ballot_sync(kWholeWarp, condition); left != 0; left &= left - 1) {
      work(__ffs(static_cast<int>(left)) - 1);
    }
  }

  /// The norms of the usable vectors, 1 for the others.
  __device__ __forceinline__ static void find_norms(const double (&products)[kPairs], unsigned usable,
                                                    double (&norm)[rows]) {
#pragma unroll
    for (int m = 0; m < rows; ++m) norm[m] = (usable >> m & 1) != 0 ? sqrt(products[pair(m, m)]) : 1;
  }

  /// The mean of the cosines of the pairs of usable vectors.
  __device__ __forceinline__ static double coherence(const double (&products)[kPairs], unsigned usable) {
    double norm[rows], cosines = 0;
    int pairs = 0;
    find_norms(products, usable, norm);
#pragma unroll
    for (int i = 0; i < rows; ++i) {
#pragma unroll
      for (int j = i + 1; j < rows; ++j) {
        if ((usable >> i & usable >> j & 1) == 0) continue;
        cosines += cosine(products[pair(i, j)], norm[i], norm[j]);
        ++pairs;
      }
    }
    return pairs > 0 ? cosines / pairs : undefined_coherence();
  }
};

template <class Stored, int rows, int lanes>
__global__ void __launch_bounds__(kCoherenceThreads, (kForwardBlocks<Stored, rows>))
    coherence_embeddings_fwd_kernel(const __grid_constant__ CoherenceRows input, bool aligned, int per_warp,
                                    double* c) {
  typedef EmbeddingPairs<Stored, rows, lanes> Pairs;
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
  double mine = Pairs::coherence(products, bits.usable);
  Pairs::each_of(bits.strange != 0, [&](int k) {
    const double value = WarpUtterance<Stored, false>(input, share.first + k, memory[warp]).coherence();
    if (lane == k) mine = value;
  });
  if (lane < share.count) c[share.first + lane] = mine;
}

}  // namespace on_device
}  // namespace spcl
