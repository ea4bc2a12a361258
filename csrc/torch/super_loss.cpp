#include "cpu/super_loss.h"

#include <torch/csrc/stable/ops.h>

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "super_loss";
constexpr int64_t kElements = 1 << 14;  // a thread takes at least this many

}  // namespace

std::tuple<Tensor, Tensor> super_loss_cpu(const Tensor& loss, const std::optional<Tensor>& threshold_tensor,
                                          std::optional<double> threshold, double regularization) {
  isa();  // throws here, not on a worker thread
  const ScalarType type = loss.scalar_type();
  SPCL_CHECK(type == ScalarType::Float || type == ScalarType::Double, kOp, "loss must be float32 or float64",
             toString(type));
  SPCL_CHECK(loss.is_contiguous(), kOp, "loss must be contiguous", "strides");
  const char* data = checked_extent(kOp, "loss", loss).begin;
  const std::optional<double> tau = checked_threshold(kOp, threshold_tensor, threshold);
  SPCL_CHECK(tau, kOp, "threshold must be a number or a tensor", "none");
  checked_weighting(kOp, static_cast<int64_t>(Scheme::kSuperLoss), regularization, tau);

  Tensor value = torch::stable::empty(loss.sizes(), type), weight = torch::stable::empty(loss.sizes(), type);
  auto* values = static_cast<char*>(value.mutable_data_ptr());
  auto* weights = static_cast<char*>(weight.mutable_data_ptr());
  const FloatType floats = float_type(kOp, "loss", type);
  const int64_t itemsize = itemsize_of(type);
  torch::stable::parallel_for(0, loss.numel(), kElements, [&](int64_t begin, int64_t end) {
    super_loss(floats, data + begin * itemsize, values + begin * itemsize, weights + begin * itemsize, end - begin,
               *tau, regularization);
  });
  return {value, weight};
}

}  // namespace spcl
