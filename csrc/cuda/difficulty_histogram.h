#pragma once

#include "cpu/difficulty_histogram.h"
#include "cuda/inputs.h"

namespace spcl {

/// Adds to `histogram`, which is 0, how many values have each digit below the digits `*prefix`, which is on the device.
void difficulty_histogram_cuda(const HistogramInput& input, const int64_t* prefix, int64_t* histogram,
                               cudaStream_t stream);

}  // namespace spcl
