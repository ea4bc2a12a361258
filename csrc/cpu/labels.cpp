#include "cpu/labels.h"

#include <cstdint>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/labels_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

int64_t class_labels(const LabelRows& labels, int64_t begin, int64_t end, int32_t* classes) {
  SPCL_ON_BEST_ISA(class_labels(labels, begin, end, classes));
}

}  // namespace spcl
