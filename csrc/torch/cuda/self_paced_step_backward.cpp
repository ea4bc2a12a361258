#include "cuda/self_paced_step_backward.h"

#include <torch/csrc/stable/library.h>

#include "torch/cuda/device_call.h"

namespace spcl {
namespace {

constexpr const char* kOp = "self_paced_step_backward";

Tensor self_paced_step_backward_on_device(const Tensor& gradient, const Tensor& grad_loss, const Tensor& counts,
                                          const Tensor& sums, bool divides_by_weight, ScalarType dtype) {
  const DeviceCall call(kOp, gradient);
  call.require("grad_loss", grad_loss);
  call.require("counts", counts);
  call.require("sums", sums);
  const FloatType type = float_type(kOp, "gradient", gradient.scalar_type());
  SPCL_CHECK(type == FloatType::kFloat32 || type == FloatType::kFloat64, kOp, "gradient must be float32 or float64",
             toString(gradient.scalar_type()));
  SPCL_CHECK(gradient.dim() == 2 && gradient.is_contiguous(), kOp, "gradient must be [T, C] and contiguous",
             shape_text(gradient));
  SPCL_CHECK(grad_loss.dim() == 0, kOp, "grad_loss must be a 0-dim tensor", shape_text(grad_loss));
  SPCL_CHECK(
      counts.scalar_type() == ScalarType::Long && counts.dim() == 1 && counts.size(0) == 7 && counts.is_contiguous(),
      kOp, "counts must be those of a step", shape_text(counts));
  SPCL_CHECK(sums.scalar_type() == ScalarType::Double && sums.dim() == 1 && sums.size(0) >= 2 && sums.is_contiguous(),
             kOp, "sums must be those of a step", shape_text(sums));
  const FloatType result = float_type(kOp, "dtype", dtype);

  StepGradient of{};
  of.values = checked_extent(kOp, "gradient", gradient).begin;
  of.type = type;
  of.count = gradient.numel();
  of.grad_loss = {checked_extent(kOp, "grad_loss", grad_loss).begin,
                  float_type(kOp, "grad_loss", grad_loss.scalar_type()), 0};
  of.counts = reinterpret_cast<const int64_t*>(checked_extent(kOp, "counts", counts).begin);
  const auto* all = reinterpret_cast<const double*>(checked_extent(kOp, "sums", sums).begin);
  of.weight_sum = divides_by_weight ? all + sums.size(0) - 1 : nullptr;
  Tensor scaled = call.empty({gradient.size(0), gradient.size(1)}, dtype);
  self_paced_step_backward_cuda(of, result, scaled.mutable_data_ptr(), call.stream());
  call.check_launches();
  return scaled;
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("self_paced_step_backward", TORCH_BOX(&spcl::self_paced_step_backward_on_device));
}
