#include "arrays/inputs.h"

#include <pybind11/pybind11.h>

#include <algorithm>

#include "cpu/offsets.h"

namespace spcl::arrays {
namespace {

std::string dtype_text(const py::array& array) { return py::str(array.dtype()); }
bool is_native(const py::array& array) { return array.dtype().attr("isnative").cast<bool>(); }

void check_type(const char* op, bool holds, const std::string& rule, const py::array& array) {
  if (!holds) throw py::type_error(std::string(op) + ": " + rule + " (got " + dtype_text(array) + ")");
}

}  // namespace

void check(const char* op, bool holds, const std::string& rule, const std::string& got) {
  if (!holds) throw py::value_error(std::string(op) + ": " + rule + " (got " + got + ")");
}

std::string shape_text(const py::array& array) { return py::str(array.attr("shape")); }

FloatType float_type(const char* op, const char* name, const py::array& array) {
  const auto size = array.itemsize();
  const bool known = is_native(array) && array.dtype().kind() == 'f' && (size == 2 || size == 4 || size == 8);
  check_type(op, known, std::string(name) + " must be float16, float32 or float64 in native byte order", array);
  return size == 2 ? FloatType::kFloat16 : size == 4 ? FloatType::kFloat32 : FloatType::kFloat64;
}

IntegerType integer_type(const char* op, const char* name, const py::array& array) {
  using enum IntegerType;
  const char kind = array.dtype().kind();
  const bool known = is_native(array) && (kind == 'i' || kind == 'u');
  check_type(op, known, std::string(name) + " must be integers in native byte order", array);
  const bool is_signed = kind == 'i';
  switch (array.itemsize()) {
    case 1:
      return is_signed ? kInt8 : kUInt8;
    case 2:
      return is_signed ? kInt16 : kUInt16;
    case 4:
      return is_signed ? kInt32 : kUInt32;
    default:
      return is_signed ? kInt64 : kUInt64;
  }
}

py::array new_array(FloatType inputs, const std::vector<py::ssize_t>& shape) {
  if (inputs == FloatType::kFloat64) return py::array_t<double>(shape);
  return py::array_t<float>(shape);
}

RowsInput checked_rows(const char* op, const char* name, char letter, const std::vector<py::array>& arrays) {
  const std::string label(name), letters(1, letter);
  const std::string rule = label + " must be one array [M, T, " + letters + "] or M arrays [T, " + letters + "]";
  check(op, !arrays.empty(), rule, "no array");
  const py::array& first = arrays.front();
  const bool stacked = arrays.size() == 1 && first.ndim() == 3;
  const py::ssize_t leading = stacked ? 1 : 0;
  check(op, first.ndim() == leading + 2, rule, shape_text(first));
  RowsInput input{};
  input.type = float_type(op, name, first);
  input.modalities = stacked ? first.shape(0) : static_cast<int64_t>(arrays.size());
  input.utterances = first.shape(leading);
  input.columns = first.shape(leading + 1);
  input.modality_stride = stacked ? first.strides(0) : 0;
  for (const py::array& array : arrays) {
    check(op, array.dtype().equal(first.dtype()), label + " must have one dtype",
          dtype_text(array) + " beside " + dtype_text(first));
    check(op, py::object(array.attr("shape")).equal(first.attr("shape")), label + " must have one shape",
          shape_text(array) + " beside " + shape_text(first));
    input.sources.push_back({bytes_of(array), input.type, array.strides(leading), array.strides(leading + 1)});
  }
  return input;
}

RowsInput checked_logits(const char* op, const std::vector<py::array>& logits) {
  RowsInput input = checked_rows(op, "logits", 'C', logits);
  check(op, input.columns <= INT32_MAX, "logits must have fewer than 2^31 classes", shape_text(logits.front()));
  check(op, input.columns > 0 || input.modalities == 0 || input.utterances == 0, "logits must have at least one class",
        shape_text(logits.front()));
  return input;
}

void check_modalities(const char* op, int64_t modalities) {
  check(op, modalities >= 2 && modalities < 1 << 16,
        "the spread between modalities needs at least 2 of them, and fewer than 65536", std::to_string(modalities));
}

IntegersInput checked_integers(const char* op, const char* name, const py::array& array, int64_t size) {
  const IntegerType type = integer_type(op, name, array);
  check(op, array.ndim() == 1 && array.shape(0) == size, std::string(name) + " must be [T]",
        shape_text(array) + " for T = " + std::to_string(size));
  return {bytes_of(array), type, array.strides(0)};
}

std::vector<int64_t> checked_counts(const char* op, const char* name, const py::array& array, int64_t size) {
  const IntegerType type = integer_type(op, name, array);
  check(op, array.ndim() == 2 && array.shape(0) == size && array.shape(1) == size,
        std::string(name) + " must be [C, C]", shape_text(array) + " for C = " + std::to_string(size));
  std::vector<int64_t> values(static_cast<size_t>(size * size));
  for (int64_t k = 0; k < size * size; ++k) {
    const int64_t at = k / size * array.strides(0) + k % size * array.strides(1);
    const int64_t value = load_integer(type, bytes_of(array) + at);
    check(op, value >= 0, std::string(name) + " must be at least 0", std::to_string(value));
    values[static_cast<size_t>(k)] = value;
  }
  return values;
}

PresentInput checked_present(const char* op, const std::optional<py::array>& present, int64_t modalities,
                             int64_t utterances) {
  if (!present) return {};
  check_type(op, present->dtype().kind() == 'b', "present must be bool", *present);
  check(op, present->ndim() == 2 && present->shape(0) == modalities && present->shape(1) == utterances,
        "present must be [M, T]",
        shape_text(*present) + " for M = " + std::to_string(modalities) + ", T = " + std::to_string(utterances));
  return {bytes_of(*present), present->strides(0), present->strides(1)};
}

PresentInput checked_flags(const char* op, const char* name, const std::optional<py::array>& flags, int64_t size) {
  if (!flags) return {};
  check_type(op, flags->dtype().kind() == 'b', std::string(name) + " must be bool", *flags);
  check(op, flags->ndim() == 1 && flags->shape(0) == size, std::string(name) + " must be [T]", shape_text(*flags));
  return {bytes_of(*flags), 0, flags->strides(0)};
}

FloatRows checked_floats(const char* op, const char* name, const py::array& array,
                         std::initializer_list<int64_t> shape) {
  const FloatType type = float_type(op, name, array);
  check(op, std::equal(array.shape(), array.shape() + array.ndim(), shape.begin(), shape.end()),
        std::string(name) + " must have the shape of the batch", shape_text(array));
  return {bytes_of(array), type, array.strides(0), shape.size() > 1 ? array.strides(1) : 0};
}

FloatRows checked_ranking(const char* op, const py::array& difficulty, double pace) {
  check(op, difficulty.ndim() == 1, "difficulty must be [T]", shape_text(difficulty));
  check(op, pace > 0 && pace <= 1, "pace must be in (0, 1]", py::str(py::float_(pace)));
  return checked_floats(op, "difficulty", difficulty, {difficulty.shape(0)});
}

std::vector<int64_t> checked_offsets(const char* op, const py::array& offsets, int64_t utterances) {
  const IntegerType type = integer_type(op, "offsets", offsets);
  check(op, offsets.ndim() == 1, "offsets must be [D + 1]", shape_text(offsets));
  std::vector<int64_t> values(static_cast<size_t>(offsets.shape(0)));
  const Fault fault = read_offsets(type, bytes_of(offsets), offsets.strides(0), utterances, values);
  check(op, fault.rule.empty(), fault.rule, fault.got);
  return values;
}

Weighting checked_weighting(const char* op, int64_t scheme, double parameter, std::optional<double> threshold) {
  const Fault fault = weighting_fault(scheme, parameter, threshold);
  check(op, fault.rule.empty(), fault.rule, fault.got);
  return {static_cast<Scheme>(scheme), threshold.value_or(0), parameter};
}

}  // namespace spcl::arrays
