#pragma once

// The offsets of a batch as a kernel reads them.

#include "cuda/row_ranges.h"

namespace spcl {
namespace on_device {

/// The maximum over the threads of a block up to this one, and over all. Every thread takes part. A barrier has to lie
/// between two calls.
template <int threads>
__device__ __forceinline__ int64_t max_up_to(int64_t value, int64_t& all) {
  using Parts = int64_t[threads / 32];
  SPCL_SHARED(Parts, parts);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    const int64_t other = __shfl_up_sync(kWholeWarp, value, by);
    if (lane >= by) value = max(value, other);
  }
  if (lane == 31) parts[warp] = value;
  __syncthreads();
  all = 0;
  for (int w = 0; w < threads / 32; ++w) {
    if (w == warp) value = max(value, all);
    all = max(all, parts[w]);
  }
  return value;
}

/// What a kernel reads: offsets that rise from 0 or more to at most the number of rows.
struct Bounds {
  const RowRanges& ranges;
  const int64_t* own;  // the block's, or null

  __device__ __forceinline__ int64_t at(int64_t index) const {
    if (own != nullptr) return own[index];
    return ranges.flags[0] != 0 ? ranges.mended[index] : ranges.offsets.at(index);
  }
};

/// The bounds of a block of at least kMostOwnRanges threads; a barrier has to come before they are read.
template <int threads>
__device__ __forceinline__ Bounds bounds_of_block(const RowRanges& ranges) {
  using Own = int64_t[RowRanges::kMostOwnRanges];
  static_assert(threads >= RowRanges::kMostOwnRanges);
  SPCL_SHARED(Own, own);
  if (ranges.dialogues + 1 > RowRanges::kMostOwnRanges) return {ranges, nullptr};
  const int64_t index = threadIdx.x;
  int64_t all;
  const int64_t bound = max_up_to<threads>(index <= ranges.dialogues ? ranges.within(index) : 0, all);
  if (index < RowRanges::kMostOwnRanges) own[index] = bound;
  return {ranges, own};
}

}  // namespace on_device
}  // namespace spcl
