#pragma once

#include <cstdint>

#include "cpu/dtypes.h"

namespace spcl {

/// SuperLoss of `count` contiguous losses, float or double, at a threshold and a regularization above 0: values and
/// confidences.
void super_loss(FloatType type, const void* loss, void* value, void* weight, int64_t count, double threshold,
                double regularization);

}  // namespace spcl
