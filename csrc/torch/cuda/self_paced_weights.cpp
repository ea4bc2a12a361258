#include "cuda/self_paced_weights.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "torch/cuda/weighting.h"

namespace spcl {
namespace {

constexpr const char* kOp = "self_paced_weights";

Tensor self_paced_weights_on_device(const Tensor& difficulty, const std::optional<Tensor>& threshold_tensor,
                                    std::optional<double> threshold, int64_t scheme, double parameter,
                                    const std::optional<Tensor>& groups) {
  const DeviceCall call(kOp, difficulty);
  call.require("threshold", threshold_tensor);
  const ScalarType type = difficulty.scalar_type();
  SPCL_CHECK(type == ScalarType::Float || type == ScalarType::Double, kOp, "difficulty must be float32 or float64",
             toString(type));
  SPCL_CHECK(difficulty.is_contiguous(), kOp, "difficulty must be contiguous", "strides");
  SPCL_CHECK(threshold_tensor || threshold, kOp, "threshold must be a number or a tensor", "none");
  const DeviceWeighting weighting = device_weighting(kOp, scheme, parameter, threshold_tensor, threshold);
  SPCL_CHECK(!groups, kOp, "only spld has groups", "groups");
  const char* data = checked_extent(kOp, "difficulty", difficulty).begin;

  Tensor weight = torch::stable::empty_like(difficulty);
  self_paced_weights_cuda(float_type(kOp, "difficulty", type), data, weight.mutable_data_ptr(), difficulty.numel(),
                          weighting, call.stream());
  call.check_launches();
  return weight;
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("self_paced_weights", TORCH_BOX(&spcl::self_paced_weights_on_device));
}
