#pragma once

#include "cuda/inputs.h"

namespace spcl {

/// Weights of `count` contiguous difficulties, float or double; of every scheme but kSpld. One launch.
void self_paced_weights_cuda(FloatType type, const void* difficulty, void* weight, int64_t count,
                             const DeviceWeighting& weighting, cudaStream_t stream);

}  // namespace spcl
