#include "cpu/super_loss.h"

#include <cstdint>
#include <cstring>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"
#include "cpu/self_paced_weights.h"

#define SPCL_KERNEL_SOURCE "cpu/super_loss_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

void super_loss(FloatType type, const void* loss, void* value, void* weight, int64_t count, double threshold,
                double regularization) {
  SPCL_ON_BEST_ISA(super_loss(type, loss, value, weight, count, threshold, regularization));
}

}  // namespace spcl
