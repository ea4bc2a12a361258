#include "cpu/window_coherence.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/window_coherence_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

int64_t coherence_half(int64_t window, const std::vector<int64_t>& offsets) {
  int64_t longest = 1;
  for (size_t d = 1; d < offsets.size(); ++d) longest = std::max(longest, offsets[d] - offsets[d - 1]);
  return std::min(window / 2, longest - 1);
}

int64_t coherence_work_bytes(const CoherenceBatch& batch) { SPCL_ON_BEST_ISA(coherence_work_bytes(batch)); }

void window_coherence(const CoherenceBatch& batch, int64_t begin, int64_t end, void* work, void* coherence,
                      int64_t* counts) {
  SPCL_ON_BEST_ISA(window_coherence(batch, begin, end, work, coherence, counts));
}

void window_coherence_backward(const CoherenceBatch& batch, int64_t begin, int64_t end, void* work,
                               const CoherenceGradient& gradient) {
  SPCL_ON_BEST_ISA(window_coherence_backward(batch, begin, end, work, gradient));
}

}  // namespace spcl
