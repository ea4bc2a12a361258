#pragma once

// What every kernel is written with, for nvcc and, emulated, for the C++ compiler (tests/cuda_on_cpu.h).

#include <cstdint>
#include <source_location>

#include "math/portable.h"

#if defined(SPCL_CUDA_ON_CPU)
#include "tests/cuda_on_cpu.h"
#else
#include <cuda_runtime.h>

/// kernel<<<grid, threads, shared_bytes, stream>>>(arguments)
#define SPCL_LAUNCH(kernel, grid, threads, shared_bytes, stream, ...) \
  (kernel)<<<grid, threads, shared_bytes, stream>>>(__VA_ARGS__)
/// A variable that the threads of a block share. Emulated, it starts as NaN in every block.
#define SPCL_SHARED(Type, name) __shared__ Type name
/// The memory that a launch adds, as an array, aligned to 16 bytes.
#define SPCL_DYNAMIC_SHARED(Type, name)                 \
  extern __shared__ uint4 spcl_dynamic_shared_memory[]; \
  Type* name = reinterpret_cast<Type*>(spcl_dynamic_shared_memory)
#endif

/// How many blocks of 256 threads a multiprocessor can hold: those of sm_86, 87, 89 and 120 have room for 1536 threads.
#if defined(__CUDA_ARCH__) && \
    (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 870 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
#define SPCL_MOST_BLOCKS_OF_256 6
#else
#define SPCL_MOST_BLOCKS_OF_256 8
#endif

namespace spcl {

inline constexpr unsigned kWholeWarp = ~0u;
/// Shared memory that every device gives without being asked.
inline constexpr int64_t kMostSharedBytes = 48 * 1024;

/// How many parts of `size` cover `count`.
SPCL_HD constexpr int64_t parts_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

/// The grid of a kernel whose blocks take the parts b, b + gridDim.x, ...: one block a part, up to `most`. It hangs on
/// the call alone and not on the device, so that what blocks add up does not either.
inline unsigned grid_of(int64_t parts, int64_t most = 1 << 20) {
  return static_cast<unsigned>(parts < most ? parts : most);
}

namespace on_device {

/// An address in shared memory for copy_16_bytes. Like that of `pinned`, the compiler takes it as it is: it would
/// compute either again for each of several conditional copies.
#if defined(__CUDA_ARCH__)
typedef unsigned SharedAddress;
__device__ __forceinline__ SharedAddress shared_address(void* shared) {
  auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm("" : "+r"(address));
  return address;
}
__device__ __forceinline__ const char* pinned(const char* address) {
  asm("" : "+l"(address));
  return address;
}
#else
typedef char* SharedAddress;
__device__ __forceinline__ SharedAddress shared_address(void* shared) { return static_cast<char*>(shared); }
__device__ __forceinline__ const char* pinned(const char* address) { return address; }
#endif

/// Copies 16 bytes from memory to shared memory, both aligned to that, without passing through registers. They are
/// there after await_copies() of the thread that asked, for other threads after a barrier behind it.
#if defined(SPCL_CUDA_ON_CPU)
inline void copy_16_bytes(SharedAddress shared, const char* global) {
  ::cuda_on_cpu::block().start_copy(shared, global, 16);
}
inline void await_copies(std::source_location where = std::source_location::current()) {
  ::cuda_on_cpu::block().await_copies(where.file_name(), static_cast<int>(where.line()));
}
#else
__device__ __forceinline__ void copy_16_bytes([[maybe_unused]] SharedAddress shared,
                                              [[maybe_unused]] const char* global) {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
#endif
}
__device__ __forceinline__ void await_copies() {
#if defined(__CUDA_ARCH__)
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
#endif

}  // namespace on_device
}  // namespace spcl
