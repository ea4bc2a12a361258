#include "cpu/self_paced_step.h"

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/self_paced_step_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

int64_t step_candidates(const StepBatch& batch, int64_t begin, int64_t end, int32_t* labels) {
  SPCL_ON_BEST_ISA(step_candidates(batch, begin, end, labels));
}

void step_dialogues(const StepBatch& batch, const int64_t* offsets, int64_t first, int64_t last, StepWork& work) {
  SPCL_ON_BEST_ISA(step_dialogues(batch, offsets, first, last, work));
}

void step_score_part(const StepBatch& batch, int64_t begin, int64_t end, StepWork& work) {
  SPCL_ON_BEST_ISA(step_score_part(batch, begin, end, work));
}

void step_spread(const StepBatch& batch, int64_t dialogue, double* sums, const int64_t* known, int64_t scored) {
  SPCL_ON_BEST_ISA(step_spread(batch, dialogue, sums, known, scored));
}

void step_weigh_part(const StepBatch& batch, int64_t dialogue, int64_t begin, int64_t end, StepWork& work) {
  SPCL_ON_BEST_ISA(step_weigh_part(batch, dialogue, begin, end, work));
}

}  // namespace spcl
