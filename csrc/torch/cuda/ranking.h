#pragma once

#include "cuda/order_statistic.h"
#include "torch/cuda/device_call.h"

namespace spcl {

inline Ranking checked_device_ranking(const char* op, const Tensor& difficulty, double pace) {
  const FloatRows values = checked_ranking(op, difficulty, pace);
  return {{values.data, values.type, values.row_stride}, difficulty.size(0), pace};
}

/// What order statistics need besides, 0 at first, and `bytes` more; nothing for few values.
inline Tensor order_workspace(const DeviceCall& call, const Ranking& ranking, int64_t bytes = 0) {
  if (ranking.count <= kFewValues) return call.workspace(0);
  const auto work = static_cast<int64_t>(sizeof(OrderWork));
  Tensor tensor = call.workspace(work + bytes);
  call.zero(tensor.mutable_data_ptr(), work);
  return tensor;
}

}  // namespace spcl
