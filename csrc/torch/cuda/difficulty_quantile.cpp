#include "cuda/difficulty_quantile.h"

#include <torch/csrc/stable/library.h>

#include "torch/cuda/ranking.h"

namespace spcl {
namespace {

constexpr const char* kOp = "difficulty_quantile";

Tensor difficulty_quantile_on_device(const Tensor& difficulty, std::optional<double> pace,
                                     const std::optional<Tensor>& pace_tensor) {
  const DeviceCall call(kOp, difficulty);
  const Ranking ranking = checked_device_ranking(call, kOp, difficulty, pace, pace_tensor);
  Tensor result = call.empty({}, difficulty.scalar_type());
  Tensor work = order_workspace(call, ranking);
  difficulty_quantile_cuda(ranking, static_cast<OrderWork*>(work.mutable_data_ptr()), result.mutable_data_ptr(),
                           call.stream());
  call.check_launches();
  return result;
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("difficulty_quantile", TORCH_BOX(&spcl::difficulty_quantile_on_device));
}
