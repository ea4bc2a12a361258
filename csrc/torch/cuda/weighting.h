#pragma once

#include "cuda/inputs.h"
#include "torch/cuda/device_call.h"

namespace spcl {

/// A scheme in its domain, at a threshold that is a number or a 0-dim tensor on the device, whose value nobody looks
/// at; none: +Inf, which takes all.
inline DeviceWeighting device_weighting(const char* op, int64_t scheme, double parameter,
                                        const std::optional<Tensor>& threshold_tensor,
                                        std::optional<double> threshold) {
  SPCL_CHECK(threshold_tensor || !threshold || *threshold == *threshold, op, "threshold must not be NaN", "nan");
  const std::optional<double> known = threshold_tensor ? std::nullopt : threshold;
  const Weighting weighting = checked_weighting(op, scheme, parameter, known);
  SPCL_CHECK(weighting.scheme != Scheme::kSpld, op, "spld ranks, for which a GPU has the reference", "cuda");
  DeviceWeighting result{weighting.scheme, weighting.parameter, known.value_or(__builtin_inf()), {}};
  if (threshold_tensor) {
    SPCL_CHECK(threshold_tensor->dim() == 0, op, "threshold must be a number or a 0-dim tensor",
               shape_text(*threshold_tensor));
    const FloatType type = float_type(op, "threshold", threshold_tensor->scalar_type());
    result.on_device = {checked_extent(op, "threshold", *threshold_tensor).begin, type, 0};
  }
  return result;
}

}  // namespace spcl
