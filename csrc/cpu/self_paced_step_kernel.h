// The kernel's entry points, for the instruction set being compiled (see cpu/every_isa.h).

#include "cpu/lanes.h"
//
#include "cpu/row_tile.h"
#include "cpu/step_labels.h"
#include "cpu/sum16.h"
#include "cpu/weight_of.h"
#include "math/cross_entropy.h"
#include "math/modality_spread.h"
//
#include "cpu/step_rows.h"

namespace spcl {
namespace SPCL_ISA {

/// Calls `run` with a kernel for the logits' type.
template <class Run>
void with_step_kernel(const StepBatch& batch, StepWork& work, const Run& run) {
  switch (batch.logits[0].type) {
    case FloatType::kFloat16: {
      StepKernel<Float16, float> kernel(batch, work);
      return run(kernel);
    }
    case FloatType::kBFloat16: {
      StepKernel<BFloat16, float> kernel(batch, work);
      return run(kernel);
    }
    case FloatType::kFloat32: {
      StepKernel<float, float> kernel(batch, work);
      return run(kernel);
    }
    case FloatType::kFloat64: {
      StepKernel<double, double> kernel(batch, work);
      return run(kernel);
    }
  }
}

void step_dialogues(const StepBatch& batch, const int64_t* offsets, int64_t first, int64_t last, StepWork& work) {
  work.sums.bad_label += step_labels(batch, offsets[first], offsets[last], work.labels);
  with_step_kernel(batch, work, [&](auto& kernel) { kernel.dialogues(offsets, first, last); });
}

void step_score_part(const StepBatch& batch, int64_t begin, int64_t end, StepWork& work) {
  work.sums.bad_label += step_labels(batch, begin, end, work.labels);
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
  step_labels(batch, begin, end, work.labels);
  with_step_kernel(batch, work, [&](auto& kernel) {
    kernel.spread_over_rows(dialogue, begin, end);
    kernel.weigh_rows(begin, end);
  });
}

void step_count_ranked(const StepBatch& batch, int64_t begin, int64_t end, StepWork& work) {
  step_labels(batch, begin, end, work.labels);
  with_step_kernel(batch, work, [&](auto& kernel) { kernel.count_ranked(begin, end); });
}

}  // namespace SPCL_ISA
}  // namespace spcl
