#pragma once

// The formulas of csrc/math for one thread: `Real` is a number.

#include <cstdint>

#define SPCL_ISA on_device
#include "math/cross_entropy.h"
#include "math/emotion_transitions.h"
#include "math/modality_scores.h"
#include "math/modality_scores_backward.h"
#include "math/modality_spread.h"
#include "math/self_paced_weights.h"
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
