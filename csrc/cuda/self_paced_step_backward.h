#pragma once

#include "cuda/inputs.h"

namespace spcl {

/// The undivided gradient of a step, `count` contiguous numbers, float or double.
struct StepGradient {
  const void* values;
  FloatType type;
  int64_t count;
  Numbers grad_loss;         // [1]
  const int64_t* counts;     // of the step
  const double* weight_sum;  // nullptr: the loss is divided by the number of the scored
};

/// The gradient of the joint logits, contiguous, of any type. One launch.
void self_paced_step_backward_cuda(const StepGradient& gradient, FloatType type, void* result, cudaStream_t stream);

}  // namespace spcl
