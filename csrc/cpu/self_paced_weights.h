#pragma once

#include <cstdint>

#include "cpu/dtypes.h"

namespace spcl {

enum class Scheme { kHard, kLinear, kLogistic };

/// Weights of `count` contiguous difficulties, float or double, at a threshold.
void self_paced_weights(FloatType type, const void* difficulty, void* weight, int64_t count, double threshold,
                        Scheme scheme);

}  // namespace spcl
