// The kernel's entry points, for the instruction set being compiled (see cpu/every_isa.h).

#include "cpu/lanes.h"
//
#include "cpu/row_tile.h"
#include "cpu/sum16.h"
#include "cpu/weight_of.h"
#include "math/cross_entropy.h"
#include "math/modality_spread.h"
//
#include "cpu/step_rows.h"

namespace spcl {
namespace SPCL_ISA {

/// Calls `run` with a kernel for the logits' type and number of classes.
template <class Run>
void with_step_kernel(const StepBatch& batch, StepWork& work, const Run& run) {
  const auto run_with = [&]<class Input, class Real, int Fixed>(std::type_identity<StepKernel<Input, Real, Fixed>>) {
    StepKernel<Input, Real, Fixed> kernel(batch, work);
    run(kernel);
  };
  with_classes(batch.labels.num_classes, [&](auto fixed) {
    constexpr int Fixed = decltype(fixed)::value;
    switch (batch.logits[0].type) {
      case FloatType::kFloat16:
        return run_with(std::type_identity<StepKernel<Float16, float, Fixed>>());
      case FloatType::kBFloat16:
        return run_with(std::type_identity<StepKernel<BFloat16, float, Fixed>>());
      case FloatType::kFloat32:
        return run_with(std::type_identity<StepKernel<float, float, Fixed>>());
      case FloatType::kFloat64:
        return run_with(std::type_identity<StepKernel<double, double, 0>>());
    }
  });
}

int64_t step_candidates(const StepBatch& batch, int64_t begin, int64_t end, int32_t* labels) {
  class_labels(batch.labels, begin, end, labels);
  int64_t candidates = 0;
  if (batch.present == nullptr) {
    for (int64_t t = 0; t < end - begin; ++t) candidates += labels[t] >= 0;
    return candidates;
  }
  for (int64_t t = begin; t < end; ++t) {
    bool has_any = false;
    for (int64_t m = 0; !has_any && m < batch.modalities; ++m) {
      has_any = batch.present[m * batch.present_modality_stride + t * batch.present_stride] != 0;
    }
    candidates += labels[t - begin] >= 0 && has_any;
  }
  return candidates;
}

void step_dialogues(const StepBatch& batch, const int64_t* offsets, int64_t first, int64_t last, StepWork& work) {
  work.sums.bad_label += class_labels(batch.labels, offsets[first], offsets[last], work.labels);
  with_step_kernel(batch, work, [&](auto& kernel) { kernel.dialogues(offsets, first, last); });
}

void step_score_part(const StepBatch& batch, int64_t begin, int64_t end, StepWork& work) {
  work.sums.bad_label += class_labels(batch.labels, begin, end, work.labels);
  with_step_kernel(batch, work, [&](auto& kernel) {
    kernel.score(begin, end);
    kernel.sum_dialogue(begin, end);
  });
}

void step_spread(const StepBatch& batch, int64_t dialogue, double* sums, const int64_t* known, int64_t scored) {
  StepWork work{};
  with_step_kernel(batch, work, [&](auto& kernel) { kernel.spread_dialogue(dialogue, sums, known, scored); });
}

void step_weigh_part(const StepBatch& batch, int64_t dialogue, int64_t begin, int64_t end, StepWork& work) {
  class_labels(batch.labels, begin, end, work.labels);
  with_step_kernel(batch, work, [&](auto& kernel) {
    kernel.spread_over_rows(dialogue, begin, end);
    kernel.weigh_rows(begin, end);
  });
}

}  // namespace SPCL_ISA
}  // namespace spcl
