#pragma once

// Launches of the step's main kernel, for one type of logits: csrc/cuda/self_paced_step_<type>.cu.

#include "cuda/self_paced_step.h"
#include "cuda/step_block.h"

namespace spcl {

void launch_step_float16(const StepCall& call, const on_device::StepPlan& plan, cudaStream_t stream);
void launch_step_bfloat16(const StepCall& call, const on_device::StepPlan& plan, cudaStream_t stream);
void launch_step_float32(const StepCall& call, const on_device::StepPlan& plan, cudaStream_t stream);
void launch_step_float64(const StepCall& call, const on_device::StepPlan& plan, cudaStream_t stream);

namespace on_device {

/// What a launch may ask for beside the shared memory that kernels declare.
inline constexpr int64_t kStepSharedBytes = 42 * 1024;

/// As many modalities to a stage, then as many dialogues to a warp, as there is shared memory for. `rows_bytes(slots)`
/// is what the scorer needs; the sums of the dialogues take its place when it is done.
template <class RowsBytes>
void share_out_memory(const StepCall& call, StepPlan& plan, int most_slots, RowsBytes rows_bytes) {
  const int64_t modalities = call.logits.modalities;
  const int64_t totals = kStepWarps * StepPlan::num_totals(modalities) * 8;
  for (plan.tile_slots = most_slots;; --plan.tile_slots) {
    plan.rows_bytes = rows_bytes(plan.tile_slots);
    for (plan.spread_slots = 8; plan.spread_slots >= 2; plan.spread_slots /= 2) {
      const int64_t sums = SpreadSlots::bytes(kStepWarps, plan.spread_slots, modalities);
      const int64_t both = plan.rows_bytes > sums ? plan.rows_bytes : sums;
      plan.shared_bytes = (both + totals + 15) / 16 * 16;
      if (plan.shared_bytes <= kStepSharedBytes) return;
    }
    if (plan.tile_slots == 0) return;  // not with kMostStepModalities
  }
}

template <class Scorer>
void launch_step_with(const StepCall& call, const StepPlan& plan, cudaStream_t stream) {
  SPCL_LAUNCH(self_paced_step_fwd_kernel<Scorer>, plan.blocks, kStepThreads, static_cast<size_t>(plan.shared_bytes),
              stream, call, plan);
}

}  // namespace on_device
}  // namespace spcl
