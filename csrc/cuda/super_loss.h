#pragma once

#include "cuda/inputs.h"

namespace spcl {

/// SuperLoss of `count` contiguous losses, float or double: values and confidences. `weighting` is kSuperLoss. One
/// launch.
void super_loss_cuda(FloatType type, const void* loss, void* value, void* weight, int64_t count,
                     const DeviceWeighting& weighting, cudaStream_t stream);

}  // namespace spcl
