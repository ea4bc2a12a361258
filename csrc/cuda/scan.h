#pragma once

#include "cuda/launch.h"

namespace spcl {
namespace on_device {

template <class Value>
struct Scanned {
  Value before, all;  // the sum over the threads before this one, and over all of the block
};

/// Sums over the threads of a block, `threads` of them, in their order. Every thread takes part. A barrier has to lie
/// between two calls: the first one's results may still be read.
template <int threads, class Value>
__device__ __forceinline__ Scanned<Value> scan_of_block(Value value) {
  using Parts = Value[threads / 32];
  SPCL_SHARED(Parts, parts);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  Value up_to = value;
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    const Value other = __shfl_up_sync(kWholeWarp, up_to, by);
    if (lane >= by) up_to += other;
  }
  if (lane == 31) parts[warp] = up_to;
  __syncthreads();
  Value before = 0, all = 0;
  for (int w = 0; w < threads / 32; ++w) {
    if (w == warp) before = all;
    all += parts[w];
  }
  return {before + up_to - value, all};
}

}  // namespace on_device
}  // namespace spcl
