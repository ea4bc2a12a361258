#include "cpu/self_paced_weights.h"

#include <cstdint>
#include <cstring>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/self_paced_weights_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {
void self_paced_weights(FloatType type, const void* difficulty, void* weight, int64_t count,
                        const Weighting& weighting) {
  SPCL_ON_BEST_ISA(self_paced_weights(type, difficulty, weight, count, weighting));
}

}  // namespace spcl
