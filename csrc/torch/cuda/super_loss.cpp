#include "cuda/super_loss.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "torch/cuda/weighting.h"

namespace spcl {
namespace {

constexpr const char* kOp = "super_loss";

std::tuple<Tensor, Tensor> super_loss_on_device(const Tensor& loss, const std::optional<Tensor>& threshold_tensor,
                                                std::optional<double> threshold, double regularization) {
  const DeviceCall call(kOp, loss);
  call.require("loss", loss);
  call.require("threshold", threshold_tensor);
  const ScalarType type = loss.scalar_type();
  SPCL_CHECK(type == ScalarType::Float || type == ScalarType::Double, kOp, "loss must be float32 or float64",
             toString(type));
  SPCL_CHECK(loss.is_contiguous(), kOp, "loss must be contiguous", "strides");
  SPCL_CHECK(threshold_tensor || threshold, kOp, "threshold must be a number or a tensor", "none");
  const DeviceWeighting weighting =
      device_weighting(kOp, static_cast<int64_t>(Scheme::kSuperLoss), regularization, threshold_tensor, threshold);
  const char* data = checked_extent(kOp, "loss", loss).begin;

  Tensor value = torch::stable::empty_like(loss), weight = torch::stable::empty_like(loss);
  super_loss_cuda(float_type(kOp, "loss", type), data, value.mutable_data_ptr(), weight.mutable_data_ptr(),
                  loss.numel(), weighting, call.stream());
  call.check_launches();
  return {value, weight};
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("super_loss", TORCH_BOX(&spcl::super_loss_on_device));
}
