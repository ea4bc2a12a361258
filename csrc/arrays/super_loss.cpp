#include "cpu/super_loss.h"

#include <pybind11/pybind11.h>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "super_loss";

}  // namespace

py::tuple super_loss(const py::array& loss, double threshold, double regularization) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const FloatType type = float_type(kOp, "loss", loss);
  check(kOp, type != FloatType::kFloat16 && (loss.flags() & py::array::c_style) != 0,
        "loss must be contiguous float32 or float64", shape_text(loss));
  checked_weighting(kOp, static_cast<int64_t>(Scheme::kSuperLoss), regularization, threshold);
  py::array value = new_array(type, {loss.shape(), loss.shape() + loss.ndim()});
  py::array weight = new_array(type, {loss.shape(), loss.shape() + loss.ndim()});
  void *values = value.mutable_data(), *weights = weight.mutable_data();
  const char* data = bytes_of(loss);
  const int64_t count = loss.size();
  {
    const py::gil_scoped_release release;
    spcl::super_loss(type, data, values, weights, count, threshold, regularization);
  }
  return py::make_tuple(value, weight);
}

}  // namespace spcl::arrays
