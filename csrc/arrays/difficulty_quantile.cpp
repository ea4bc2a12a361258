#include <pybind11/pybind11.h>

#include <vector>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"
#include "cpu/order_statistic.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "difficulty_quantile";

}  // namespace

py::array difficulty_quantile(const py::array& difficulty, double pace) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const FloatRows values = checked_ranking(kOp, difficulty, pace);
  const int64_t count = difficulty.shape(0);
  py::array result(difficulty.dtype(), std::vector<py::ssize_t>{});
  void* value = result.mutable_data();

  const py::gil_scoped_release release;
  store_threshold(values.type, order_statistic(values, count, pace, serially), value);
  return result;
}

}  // namespace spcl::arrays
