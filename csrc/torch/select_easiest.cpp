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

Tensor select_easiest_cpu(const Tensor& difficulty, std::optional<double> pace,
                          const std::optional<Tensor>& pace_tensor) {
  isa();  // throws here, not on a worker thread
  const FloatRows values = checked_difficulty(kOp, difficulty);
  const double fraction = checked_pace(kOp, pace, pace_tensor);
  Tensor selected = torch::stable::empty(difficulty.sizes(), ScalarType::Bool);
  select_easiest(values, difficulty.size(0), fraction, on_torch_threads,
                 static_cast<char*>(selected.mutable_data_ptr()));
  return selected;
}

}  // namespace spcl
