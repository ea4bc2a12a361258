#include "cuda/select_easiest.h"

#include <torch/csrc/stable/library.h>

#include "torch/cuda/ranking.h"

namespace spcl {
namespace {

constexpr const char* kOp = "select_easiest";

Tensor select_easiest_on_device(const Tensor& difficulty, std::optional<double> pace,
                                const std::optional<Tensor>& pace_tensor) {
  const DeviceCall call(kOp, difficulty);
  const Ranking ranking = checked_device_ranking(call, kOp, difficulty, pace, pace_tensor);
  Tensor selected = call.empty({ranking.count}, ScalarType::Bool);
  Tensor memory =
      order_workspace(call, ranking, parts_of(ranking.count, kTieChunk) * static_cast<int64_t>(sizeof(unsigned)));
  select_easiest_cuda(ranking, static_cast<OrderWork*>(memory.mutable_data_ptr()),
                      static_cast<bool*>(selected.mutable_data_ptr()), call.stream());
  call.check_launches();
  return selected;
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("select_easiest", TORCH_BOX(&spcl::select_easiest_on_device));
}
