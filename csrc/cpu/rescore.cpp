#include "cpu/rescore.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"
#include "cpu/self_paced_step.h"

#define SPCL_KERNEL_SOURCE "cpu/rescore_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

bool is_rescored_at_once(const RescoreBatch& batch) { SPCL_ON_BEST_ISA(is_rescored_at_once(batch)); }

void rescore_dialogues(const RescoreBatch& batch, int64_t first, int64_t last, RescoreWork& work) {
  const auto rows = static_cast<size_t>(batch.offsets[last] - batch.offsets[first]);
  if (work.labels.size() < rows) {
    work.labels.resize(rows);
    work.confidence.resize(rows * static_cast<size_t>(batch.modalities));
    if (batch.wants_coherence) work.agreement.resize(rows);
  }
  SPCL_ON_BEST_ISA(rescore_dialogues(batch, first, last, work));
}

void rate_dialogues(const RescoreBatch& batch, int64_t first, int64_t last, const float* extra, RescoreWork& work) {
  SPCL_ON_BEST_ISA(rate_dialogues(batch, first, last, extra, work));
}

}  // namespace spcl
