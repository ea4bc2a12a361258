#include "cpu/difficulty_histogram.h"

#include <pybind11/pybind11.h>

#include <string>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "difficulty_histogram";

HistogramInput checked_histogram(const py::array& difficulty, int64_t level) {
  HistogramInput input{};
  check(kOp, difficulty.ndim() == 1, "difficulty must be [T]", shape_text(difficulty));
  input.count = difficulty.shape(0);
  input.are_integers = difficulty.dtype().equal(py::dtype::of<int64_t>());
  if (input.are_integers) {
    input.values = {bytes_of(difficulty), FloatType::kFloat64, difficulty.strides(0), 0};
  } else {
    input.values = checked_floats(kOp, "difficulty", difficulty, {input.count});
  }
  const int bits = key_bits(input.values.type);
  check(kOp, level >= 0 && level < digits_of(bits),
        "level must be in [0, " + std::to_string(digits_of(bits)) + ") for this dtype", std::to_string(level));
  input.digit = Digit::of(bits, static_cast<int>(level));
  return input;
}

}  // namespace

py::array difficulty_histogram(const py::array& difficulty, int64_t prefix, int64_t level) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const HistogramInput input = checked_histogram(difficulty, level);
  py::array_t<int64_t> result(input.buckets());
  int64_t* histogram = result.mutable_data();

  const py::gil_scoped_release release;
  spcl::difficulty_histogram(input, prefix, serially, histogram);
  return result;
}

}  // namespace spcl::arrays
