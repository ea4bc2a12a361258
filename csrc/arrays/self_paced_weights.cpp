#include "cpu/self_paced_weights.h"

#include <pybind11/pybind11.h>

#include <vector>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "self_paced_weights";

bool is_contiguous(const py::array& array) { return (array.flags() & py::array::c_style) != 0; }

}  // namespace

py::array self_paced_weights(const py::array& difficulty, double threshold, int64_t scheme, double parameter,
                             const std::optional<py::array>& groups) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const FloatType type = float_type(kOp, "difficulty", difficulty);
  check(kOp, type != FloatType::kFloat16 && is_contiguous(difficulty),
        "difficulty must be contiguous float32 or float64", shape_text(difficulty));
  const Weighting weighting = checked_weighting(kOp, scheme, parameter, threshold);
  Groups of{};
  if (weighting.scheme == Scheme::kSpld) {
    check(kOp, groups && is_contiguous(*groups), "groups must be a contiguous array", groups ? "strides" : "none");
    check(kOp, py::object(groups->attr("shape")).equal(difficulty.attr("shape")),
          "groups must have the shape of difficulty", shape_text(*groups) + " beside " + shape_text(difficulty));
    of = {bytes_of(*groups), integer_type(kOp, "groups", *groups), groups->itemsize()};
  }
  py::array weight = new_array(type, {difficulty.shape(), difficulty.shape() + difficulty.ndim()});
  void* out = weight.mutable_data();
  const char* rho = bytes_of(difficulty);
  const int64_t count = difficulty.size();

  const py::gil_scoped_release release;
  if (weighting.scheme == Scheme::kSpld) {
    spld_weights(type, rho, out, count, weighting, of);
  } else {
    spcl::self_paced_weights(type, rho, out, count, weighting);
  }
  return weight;
}

}  // namespace spcl::arrays
