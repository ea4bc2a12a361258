#pragma once

#include "cuda/order_statistic.h"

namespace spcl {

/// Ties are counted by chunk of so many values.
inline constexpr int64_t kTieChunk = 1 << 14;

/// A bool for each value of a ranking. For more than kFewValues of them, `work` is needed, which is 0, and behind it a
/// count for each chunk.
void select_easiest_cuda(const Ranking& ranking, OrderWork* work, bool* selected, cudaStream_t stream);

}  // namespace spcl
