#include "cpu/select_easiest.h"

#include <torch/csrc/stable/ops.h>

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/for_parts.h"
#include "torch/inputs.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "select_easiest";

}  // namespace

Tensor select_easiest_cpu(const Tensor& difficulty, double pace) {
  isa();  // throws here, not on a worker thread
  const FloatRows values = checked_ranking(kOp, difficulty, pace);
  Tensor selected = torch::stable::empty(difficulty.sizes(), ScalarType::Bool);
  select_easiest(values, difficulty.size(0), pace, on_torch_threads, static_cast<char*>(selected.mutable_data_ptr()));
  return selected;
}

}  // namespace spcl
