#include "cpu/modality_scores_backward.h"

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/modality_scores_backward_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

void modality_scores_backward(const ModalityScoresBackwardRows* rows, int64_t modalities, const LabelRows& labels,
                              int64_t begin, int64_t end) {
  SPCL_ON_BEST_ISA(modality_scores_backward(rows, modalities, labels, begin, end));
}

}  // namespace spcl
