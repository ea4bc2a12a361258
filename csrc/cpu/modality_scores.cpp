#include "cpu/modality_scores.h"

#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/modality_scores_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

void modality_scores(const ModalityScoresRows& rows, int64_t begin, int64_t end) {
#if defined(__x86_64__)
  if (isa() == Isa::kAvx512) return avx512::modality_scores(rows, begin, end);
  if (isa() == Isa::kAvx2) return avx2::modality_scores(rows, begin, end);
#endif
  baseline::modality_scores(rows, begin, end);
}

}  // namespace spcl
