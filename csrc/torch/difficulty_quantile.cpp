#include <torch/csrc/stable/ops.h>

#include "cpu/isa.h"
#include "cpu/order_statistic.h"
#include "torch/check.h"
#include "torch/for_parts.h"
#include "torch/inputs.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "difficulty_quantile";

}  // namespace

Tensor difficulty_quantile_cpu(const Tensor& difficulty, std::optional<double> pace,
                               const std::optional<Tensor>& pace_tensor) {
  isa();  // throws here, not on a worker thread
  const FloatRows values = checked_difficulty(kOp, difficulty);
  const double fraction = checked_pace(kOp, pace, pace_tensor);
  const OrderStatistic threshold = order_statistic(values, difficulty.size(0), fraction, on_torch_threads);
  Tensor result = torch::stable::empty({}, difficulty.scalar_type());
  store_threshold(values.type, threshold, result.mutable_data_ptr());
  return result;
}

}  // namespace spcl
