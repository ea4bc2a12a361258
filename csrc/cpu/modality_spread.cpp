#include "cpu/modality_spread.h"

#include <cstdint>
#include <cstring>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/modality_spread_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

void modality_spread(const SpreadBatch& batch, int64_t dialogue, int64_t begin, int64_t end, void* work, double* sums,
                     int64_t* known) {
  SPCL_ON_BEST_ISA(modality_spread(batch, dialogue, begin, end, work, sums, known));
}

}  // namespace spcl
