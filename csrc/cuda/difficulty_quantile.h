#pragma once

#include "cuda/order_statistic.h"

namespace spcl {

/// The threshold of a ranking, a number of the type of its values. `work`, which is 0, is needed for more than
/// kFewValues of them.
void difficulty_quantile_cuda(const Ranking& ranking, OrderWork* work, void* result, cudaStream_t stream);

}  // namespace spcl
