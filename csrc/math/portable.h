#pragma once

// One spelling for code that the C++ compiler and nvcc both compile.
#if defined(__CUDACC__)
#define SPCL_HD __host__ __device__ __forceinline__
#define SPCL_INLINE
#else
#define SPCL_HD inline __attribute__((always_inline))
#define SPCL_INLINE __attribute__((always_inline))  // of a lambda, behind its parameters
#endif

namespace spcl {

/// a b, rounded before anything is added to it: nvcc may make a product and a sum one operation, the C++ compiler is
/// told not to.
SPCL_HD double rounded_product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

/// a b - c, rounded once.
SPCL_HD double multiply_subtract(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return fma(a, b, -c);
#else
  return __builtin_fma(a, b, -c);
#endif
}

}  // namespace spcl
