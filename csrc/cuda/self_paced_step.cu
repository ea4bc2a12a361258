#include "cuda/self_paced_step.h"
#include "cuda/step_launch.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kTotalsThreads = 512;
/// Blocks of the main kernel, so partial sums of each total.
constexpr int64_t kMostBlocks = 2048;

/// Adds up what the blocks came to, in an order that hangs on the number of blocks alone: a warp a total.
__global__ void __launch_bounds__(kTotalsThreads)
    self_paced_step_totals_fwd_kernel(const double* partials, int64_t blocks, int64_t modalities, FloatType result,
                                      bool divides_by_weight, bool flags, void* loss, int64_t* counts, double* sums) {
  using Totals = double[kStepTotals];
  SPCL_SHARED(Totals, totals);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const int64_t num_totals = StepPlan::num_totals(modalities);
  for (int64_t k = thread / 32; k < num_totals; k += kTotalsThreads / 32) {
    double total = 0;
    for (int64_t b = lane; b < blocks; b += 32) total += partials[k * blocks + b];
    total = sum_of_group<32>(total);
    if (lane > 0) continue;
    if (k < kStepTotals) {
      totals[k] = total;
    } else {
      sums[1 + k - kStepTotals] = total;
    }
  }
  __syncthreads();
  if (thread > 0) return;
  const double norm = divides_by_weight ? totals[kWeightSum] : totals[kScored];
  const double mean = totals[kWeightedLoss] / (norm > 0 ? norm : 1);
  if (result == FloatType::kFloat64) {
    *static_cast<double*>(loss) = mean;
  } else {
    *static_cast<float*>(loss) = static_cast<float>(mean);
  }
  sums[0] = totals[kLoss];
  sums[1 + 2 * modalities] = totals[kWeightSum];
  counts[0] = 1;
  counts[1] = static_cast<int64_t>(totals[kScored]);
  counts[2] = static_cast<int64_t>(totals[kSelected]);
  counts[3] = flags ? static_cast<int64_t>(totals[kNonfinite]) : 0;
  counts[4] = flags ? static_cast<int64_t>(totals[kBadLabel]) : 0;
  counts[5] = flags ? static_cast<int64_t>(totals[kBadOffset]) : 0;
  counts[6] = static_cast<int64_t>(totals[kUndefined]);
}

/// Few rows are spread over many blocks, each of which waits for memory a few times in a row; many rows over so few
/// that what they add up to is little.
StepPlan plan_of(const StepCall& call) {
  const int64_t rows = call.logits.rows;
  StepPlan plan{};
  plan.span = 64;
  while (plan.span < kStepGroupRows && parts_of(rows, plan.span) > kMostBlocks / 4) plan.span *= 2;
  if (parts_of(rows, plan.span) > kMostBlocks) plan.span = parts_of(parts_of(rows, kMostBlocks), 32) * 32;
  plan.blocks = grid_of(rows == 0 ? 1 : parts_of(rows, plan.span));
  return plan;
}

int64_t partials_bytes(const StepCall& call, const StepPlan& plan) {
  return StepPlan::num_totals(call.logits.modalities) * plan.blocks * 8;
}

}  // namespace
}  // namespace on_device

int64_t self_paced_step_bytes(const StepCall& call) {
  return on_device::partials_bytes(call, on_device::plan_of(call)) + dialogue_offsets_bytes(call.offsets);
}

void self_paced_step_cuda(const StepCall& batch, void* workspace, cudaStream_t stream) {
  StepCall call = batch;
  on_device::StepPlan plan = on_device::plan_of(call);
  plan.partials = static_cast<double*>(workspace);
  prepare_offsets_cuda(call.offsets, static_cast<char*>(workspace) + on_device::partials_bytes(call, plan), stream);
  switch (call.logits.type) {
    case FloatType::kFloat16:
      launch_step_float16(call, plan, stream);
      break;
    case FloatType::kBFloat16:
      launch_step_bfloat16(call, plan, stream);
      break;
    case FloatType::kFloat32:
      launch_step_float32(call, plan, stream);
      break;
    case FloatType::kFloat64:
      launch_step_float64(call, plan, stream);
      break;
  }
  SPCL_LAUNCH(on_device::self_paced_step_totals_fwd_kernel, 1, on_device::kTotalsThreads, 0, stream, plan.partials,
              int64_t{plan.blocks}, call.logits.modalities, call.logits.type, call.divides_by_weight, call.flags,
              call.loss, call.counts, call.sums);
}

}  // namespace spcl
