#include "cpu/multiview_hardness.h"

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/multiview_hardness_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

int64_t hardness_work_bytes(const HardnessBatch& batch) {
  const int64_t itemsize = batch.type == FloatType::kFloat64 ? 8 : 4;
  return (batch.units * itemsize + 127) / 64 * 64;  // whole vectors of any width
}

HardnessBounds hardness_parts(const HardnessBatch& batch, int64_t begin, int64_t end, void* work) {
  SPCL_ON_BEST_ISA(hardness_parts(batch, begin, end, work));
}

void hardness_of_parts(FloatType type, const void* direct, const void* information, void* hardness, int64_t count,
                       const double* scaling, double slope, double direct_weight, double information_weight) {
  SPCL_ON_BEST_ISA(
      hardness_of_parts(type, direct, information, hardness, count, scaling, slope, direct_weight, information_weight));
}

}  // namespace spcl
