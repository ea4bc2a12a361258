#pragma once

// The formulas of csrc/math for one thread: `Real` is a number.

#include <cstdint>

#define SPCL_ISA on_device
#include "math/cross_entropy.h"
#include "math/emotion_transitions.h"
#include "math/modality_scores.h"
#include "math/modality_scores_backward.h"
#include "math/modality_spread.h"
#include "math/multiview_hardness.h"
#include "math/self_paced_weights.h"
#include "math/super_loss.h"
#include "math/window_coherence.h"
#undef SPCL_ISA
#include "cuda/launch.h"
#include "math/float_keys.h"
#include "math/rank_of_pace.h"

namespace spcl {
namespace on_device {

__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float log_of(float x) { return logf(x); }
__device__ __forceinline__ double log_of(double x) { return log(x); }

/// a b + c, rounded once.
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }

/// The larger; of a number and NaN, the number.
__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }

/// A difference to a maximum, no smaller than a number whose exponential rounds to 0 as well. NaN stays NaN.
__device__ __forceinline__ float bounded_shift(float shift) {
#if defined(__CUDA_ARCH__)
  float bounded;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(bounded) : "f"(shift), "f"(-104.0f));
  return bounded;
#else
  return shift < -104 ? -104.0f : shift;
#endif
}
__device__ __forceinline__ double bounded_shift(double shift) { return shift < -746 ? -746.0 : shift; }

/// exp of a bounded shift, for what is added to a sum of at least 1: half as many instructions as exp_of, as exact as
/// that (2^-22 and 2e-9 for each unit of the shift) but 0 below 1.2e-38. exp(0) is exactly 1.
///
/// 2^t for t = x log2 e, rounded, times exp of what the rounding took from x, to first order.
__device__ __forceinline__ float exp_of_shift(float bounded) {
  const float t = bounded * 1.44269504088896341f;
  const float rest = fmaf(t, -0.693147180559945309f, bounded);
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(t));
#else
  const float power = t < -126 ? 0.0f : exp2f(t);
#endif
  return fmaf(power, rest, power);
}
__device__ __forceinline__ double exp_of_shift(double bounded) { return exp(bounded); }

/// log of a total of at least 1, or NaN: as exact as log_of, without what that does for all other numbers.
///
/// total = 2^n m with m in [2/3, 4/3); the polynomial is log(1 + f) for f = m - 1.
__device__ __forceinline__ float log_of_total(float total) {
  const auto bits = __builtin_bit_cast(int32_t, total);
  const int32_t exponent = (bits - 0x3F2AAAAB) & static_cast<int32_t>(0xFF800000);
  const float f = __builtin_bit_cast(float, bits - exponent) - 1;
  const float n = fmaf(static_cast<float>(exponent), 0x1p-23f, total * 0);  // NaN where the total is
  float series = fmaf(f, -0.130187988f, 0.140846103f);
  series = fmaf(f, series, -0.121486276f);
  series = fmaf(f, series, 0.139806107f);
  series = fmaf(f, series, -0.166842356f);
  series = fmaf(f, series, 0.200122997f);
  series = fmaf(f, series, -0.249996692f);
  series = fmaf(f, series, 0.333331823f);
  series = fmaf(f, series, -0.5f);
  series = fmaf(f, f * series, f);
  return fmaf(n, 0.693147180559945309f, series);
}
__device__ __forceinline__ double log_of_total(double total) { return log(total); }

/// part / total for a total of at least 1, or NaN: by its inverse, which is computed once for all parts.
__device__ __forceinline__ float share_of(float part, float total) {
#if defined(__CUDA_ARCH__)
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(total));
  return part * fmaf(fmaf(-total, inverse, 1.0f), inverse, inverse);
#else
  return part * (1 / total);
#endif
}
__device__ __forceinline__ double share_of(double part, double total) { return part * (1 / total); }

template <class Real>
__device__ __forceinline__ Real nan_of() {
  return static_cast<Real>(__builtin_nan(""));
}
template <class Real>
__device__ __forceinline__ Real infinity_of() {
  return static_cast<Real>(__builtin_inf());
}

}  // namespace on_device
}  // namespace spcl
