#pragma once

// What csrc/cuda/self_paced_step_<type>.cu are made of.

#include "cuda/step_any_rows.h"
#include "cuda/step_fixed_rows.h"
#include "cuda/step_launch.h"

namespace spcl {
namespace on_device {

template <class Stored>
void launch_step_of_any_rows(const StepCall& call, StepPlan plan, cudaStream_t stream) {
  share_out_memory(call, plan, 0, [](int) { return int64_t{0}; });
  const int64_t classes = call.logits.columns;
  if constexpr (sizeof(Stored) == 8) {  // of the narrower types a thread has a row in the kernels below
    if (classes <= 8) return launch_step_with<AnyRows<Stored, 1>>(call, plan, stream);
  }
  if (classes <= 64) return launch_step_with<AnyRows<Stored, 8>>(call, plan, stream);
  if (classes <= 1024) return launch_step_with<AnyRows<Stored, 32>>(call, plan, stream);
  launch_step_with<AnyRows<Stored, kStepThreads>>(call, plan, stream);
}

template <class Stored, int classes>
void launch_step_of_fixed_rows(const StepCall& call, StepPlan plan, cudaStream_t stream) {
  typedef FixedRows<Stored, classes> Scorer;
  const int most = static_cast<int64_t>(Scorer::kMostSlots) < call.logits.modalities
                       ? Scorer::kMostSlots
                       : static_cast<int>(call.logits.modalities);
  const bool needs_gradient = call.gradient != nullptr;
  share_out_memory(call, plan, Scorer::fits(call.logits) ? most : 0,
                   [&](int slots) { return Scorer::rows_bytes(slots, needs_gradient); });
  launch_step_with<Scorer>(call, plan, stream);
}

/// Kernels are compiled for 2 to 8 classes of the narrower types.
template <class Stored>
void launch_step_of(const StepCall& call, const StepPlan& plan, cudaStream_t stream) {
  if constexpr (sizeof(Stored) < 8) {
    switch (call.logits.columns) {
      case 2:
        return launch_step_of_fixed_rows<Stored, 2>(call, plan, stream);
      case 3:
        return launch_step_of_fixed_rows<Stored, 3>(call, plan, stream);
      case 4:
        return launch_step_of_fixed_rows<Stored, 4>(call, plan, stream);
      case 5:
        return launch_step_of_fixed_rows<Stored, 5>(call, plan, stream);
      case 6:
        return launch_step_of_fixed_rows<Stored, 6>(call, plan, stream);
      case 7:
        return launch_step_of_fixed_rows<Stored, 7>(call, plan, stream);
      case 8:
        return launch_step_of_fixed_rows<Stored, 8>(call, plan, stream);
      default:
        break;
    }
  }
  launch_step_of_any_rows<Stored>(call, plan, stream);
}

}  // namespace on_device
}  // namespace spcl
