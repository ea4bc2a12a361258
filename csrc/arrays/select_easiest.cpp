#include "cpu/select_easiest.h"

#include <pybind11/pybind11.h>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "select_easiest";

}  // namespace

py::array select_easiest(const py::array& difficulty, double pace) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const FloatRows values = checked_ranking(kOp, difficulty, pace);
  const int64_t count = difficulty.shape(0);
  py::array_t<bool> result(count);
  char* selected = reinterpret_cast<char*>(result.mutable_data());

  const py::gil_scoped_release release;
  spcl::select_easiest(values, count, pace, serially, selected);
  return result;
}

}  // namespace spcl::arrays
