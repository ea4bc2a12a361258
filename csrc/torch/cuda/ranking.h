#pragma once

#include "cuda/order_statistic.h"
#include "torch/cuda/device_call.h"

namespace spcl {

/// Difficulties [T] and a pace: a number, or a 0-dim tensor on the device, whose value nobody looks at.
inline Ranking checked_device_ranking(const DeviceCall& call, const char* op, const Tensor& difficulty,
                                      std::optional<double> pace, const std::optional<Tensor>& pace_tensor) {
  const FloatRows values = checked_difficulty(op, difficulty);
  check_pace(op, pace, pace_tensor);
  call.require("pace", pace_tensor);
  DevicePace fraction{pace.value_or(0), {}};
  if (pace_tensor) {
    const FloatType type = float_type(op, "pace", pace_tensor->scalar_type());
    fraction.on_device = {static_cast<const char*>(pace_tensor->const_data_ptr()), type, 0};
  }
  return {{values.data, values.type, values.row_stride}, difficulty.size(0), fraction};
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
