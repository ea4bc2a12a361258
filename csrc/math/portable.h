#pragma once

// One spelling for code that the C++ compiler and nvcc both compile.
#if defined(__CUDACC__)
#define SPCL_HD __host__ __device__ __forceinline__
#define SPCL_INLINE
#else
#define SPCL_HD inline __attribute__((always_inline))
#define SPCL_INLINE __attribute__((always_inline))  // of a lambda, behind its parameters
#endif
