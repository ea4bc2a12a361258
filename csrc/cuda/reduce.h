#pragma once

// Sums and maxima over the lanes that share a row. Every lane gets the result, and the order is fixed.

#include "cuda/launch.h"

namespace spcl {
namespace on_device {

/// Combines the values of `lanes` neighbouring lanes, 1 to 32 of them; all lanes of the warp take part.
template <int lanes, class Value, class Combine>
__device__ __forceinline__ Value over_lanes(Value value, Combine combine) {
  for (int half = lanes / 2; half > 0; half /= 2) value = combine(value, __shfl_xor_sync(kWholeWarp, value, half));
  return value;
}

/// The same over all threads of a block, `threads` of them, a multiple of 32. Every thread takes part.
template <int threads, class Value, class Combine>
__device__ __forceinline__ Value over_block(Value value, Combine combine) {
  using Parts = Value[threads / 32];
  SPCL_SHARED(Parts, parts);
  value = over_lanes<32>(value, combine);
  __syncthreads();  // what an earlier call left has been read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = parts[0];
  for (int warp = 1; warp < threads / 32; ++warp) value = combine(value, parts[warp]);
  return value;
}

/// `lanes` is 1 to 32, or the threads of the block.
template <int lanes, class Value, class Combine>
__device__ __forceinline__ Value over_group(Value value, Combine combine) {
  if constexpr (lanes <= 32) {
    return over_lanes<lanes>(value, combine);
  } else {
    return over_block<lanes>(value, combine);
  }
}

template <int lanes, class Value>
__device__ __forceinline__ Value sum_of_group(Value value) {
  return over_group<lanes>(value, [](Value a, Value b) { return a + b; });
}

/// The larger; NaN where either is.
template <int lanes, class Value>
__device__ __forceinline__ Value max_of_group(Value value) {
  return over_group<lanes>(value, [](Value a, Value b) { return a > b || a != a ? a : b; });
}

/// True in the last block of the grid to come here, once everything the others wrote before is visible to it.
/// `ticket` starts at 0 and is left at 0. Every thread takes part.
__device__ __forceinline__ bool is_last_block(unsigned* ticket) {
  using Flag = bool;
  SPCL_SHARED(Flag, last);
  __threadfence();
  __syncthreads();  // between blocks: all that this one wrote comes before its ticket
  if (threadIdx.x == 0) {
    last = atomicAdd(ticket, 1u) == gridDim.x * gridDim.y - 1;
    if (last) *ticket = 0;
  }
  __syncthreads();
  __threadfence();
  return last;
}

}  // namespace on_device
}  // namespace spcl
