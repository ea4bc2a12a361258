#pragma once

// Runs the CUDA sources on the CPU: a kernel's threads are fibers of one thread, which change places only where they
// wait for one another. So every kernel can be held to the reference, and run under sanitizers, without a GPU.
//
// What it does that a GPU does not: shared memory starts as NaN for every block; a wait that threads of a block do not
// reach together, a lane that is missing from a warp's exchange, and a block that cannot go on are errors; and the
// order in which threads and blocks take their turns is chosen from outside, since a missing barrier shows only when
// the order is unkind. What it cannot show: races between threads that run at the same moment, so missing fences.
//
//   SPCL_CUDA_ON_CPU_ORDER   forward (default), reverse, or a number: a shuffle with that seed
//   SPCL_CUDA_ON_CPU_SKIP    file.cu:line of one barrier that is left out, to see whether a test notices

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/cuda_on_cpu_block.h"

// ---- the language ----

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __grid_constant__

using cudaStream_t = void*;

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline dim3 gridDim, blockDim;
#define threadIdx (::dim3(::cuda_on_cpu::block().thread()))
#define blockIdx (::dim3(::cuda_on_cpu::block().index[0], ::cuda_on_cpu::block().index[1]))

// ---- memory ----

#define SPCL_SHARED(Type, name)                                              \
  static ::cuda_on_cpu::SharedSlot name##_slot(sizeof(Type), alignof(Type)); \
  std::remove_reference_t<Type>& name = *static_cast<Type*>(name##_slot.memory())
#define SPCL_DYNAMIC_SHARED(Type, name) Type* name = static_cast<Type*>(::cuda_on_cpu::block().dynamic_shared())

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>, "sums of floating point numbers by atomics depend on their order");
  const T before = *address;
  *address = static_cast<T>(before + value);
  return before;
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return std::exchange(*address, std::max(*address, value));
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return std::exchange(*address, std::min(*address, value));
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return std::exchange(*address, static_cast<T>(*address | value));
}

// ---- waiting ----

#define __syncthreads() ::cuda_on_cpu::block().sync_block(__FILE__, __LINE__)
#define __syncthreads_or(predicate) ::cuda_on_cpu::block().sync_block_or(predicate, __FILE__, __LINE__)
#define __syncwarp() ::cuda_on_cpu::block().sync_warp(__FILE__, __LINE__)

inline constexpr int warpSize = 32;

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = ::cuda_on_cpu::block().lane();
  return ::cuda_on_cpu::block().exchange(mask, value, lane / width * width + ((source % width) + width) % width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = ::cuda_on_cpu::block().lane(), source = lane ^ bits;
  return ::cuda_on_cpu::block().exchange(mask, value, source / width > lane / width ? lane : source);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = ::cuda_on_cpu::block().lane(), source = lane + static_cast<int>(by);
  return ::cuda_on_cpu::block().exchange(mask, value, source / width == lane / width ? source : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = ::cuda_on_cpu::block().lane(), source = lane - static_cast<int>(by);
  return ::cuda_on_cpu::block().exchange(mask, value, source >= lane / width * width ? source : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return ::cuda_on_cpu::block().ballot(mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
template <class T>
T __reduce_add_sync(unsigned mask, T value) {
  T sum = 0;
  ::cuda_on_cpu::block().exchange_all(mask, value, [&](T other) { sum += other; });
  return sum;
}
template <class T>
T __reduce_max_sync(unsigned mask, T value) {
  T most = value;
  ::cuda_on_cpu::block().exchange_all(mask, value, [&](T other) { most = std::max(most, other); });
  return most;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  unsigned same = 0, lane = 0;
  ::cuda_on_cpu::block().exchange_all(mask, value, [&](T other) {
    while (!(mask >> lane & 1)) ++lane;
    same |= (other == value ? 1u : 0u) << lane++;
  });
  return same;
}

// ---- numbers ----

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }
using std::max;
using std::min;

// ---- launches ----

#define SPCL_LAUNCH(kernel, grid, threads, shared_bytes, stream, ...) \
  (static_cast<void>(stream), ::cuda_on_cpu::launch(grid, threads, shared_bytes, [&] { (kernel)(__VA_ARGS__); }))

namespace cuda_on_cpu {

/// Runs every block of a grid, one after the other.
inline void launch(dim3 grid, dim3 threads, size_t shared_bytes, const std::function<void()>& kernel) {
  if (grid.x == 0 || grid.y == 0 || grid.z != 1 || threads.x == 0 || threads.x > 1024 || threads.y != 1 ||
      shared_bytes > kSharedBytes || grid.y > 65535) {
    throw std::runtime_error("cuda_on_cpu: a launch that a GPU would refuse");
  }
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  gridDim = grid;
  blockDim = threads;
  block().run_grid(grid.x, grid.y, threads.x, shared_bytes, kernel);
}

}  // namespace cuda_on_cpu
