#include "torch/inputs.h"

#include <algorithm>
#include <string>

#include "cpu/offsets.h"

namespace spcl {

FloatType float_type(const char* op, const char* name, ScalarType type) {
  switch (type) {
    case ScalarType::Half:
      return FloatType::kFloat16;
    case ScalarType::BFloat16:
      return FloatType::kBFloat16;
    case ScalarType::Float:
      return FloatType::kFloat32;
    case ScalarType::Double:
      return FloatType::kFloat64;
    default:
      SPCL_CHECK(false, op, std::string(name) + " must be float16, bfloat16, float32 or float64", toString(type));
  }
  __builtin_unreachable();
}

IntegerType integer_type(const char* op, const char* name, ScalarType type) {
  switch (type) {
    case ScalarType::Char:
      return IntegerType::kInt8;
    case ScalarType::Short:
      return IntegerType::kInt16;
    case ScalarType::Int:
      return IntegerType::kInt32;
    case ScalarType::Long:
      return IntegerType::kInt64;
    case ScalarType::Byte:
      return IntegerType::kUInt8;
    case ScalarType::UInt16:
      return IntegerType::kUInt16;
    case ScalarType::UInt32:
      return IntegerType::kUInt32;
    case ScalarType::UInt64:
      return IntegerType::kUInt64;
    default:
      SPCL_CHECK(false, op, std::string(name) + " must be integers", toString(type));
  }
  __builtin_unreachable();
}

RowsInput checked_rows(const char* op, const char* name, char letter, const std::vector<Tensor>& tensors) {
  const std::string label(name), letters(1, letter);
  const std::string rule = label + " must be one tensor [M, T, " + letters + "] or M tensors [T, " + letters + "]";
  SPCL_CHECK(!tensors.empty(), op, rule, "no tensor");
  const Tensor& first = tensors.front();
  const bool stacked = tensors.size() == 1 && first.dim() == 3;
  const int64_t leading = stacked ? 1 : 0;
  SPCL_CHECK(first.dim() == leading + 2, op, rule, shape_text(first));
  RowsInput input{};
  input.type = float_type(op, name, first.scalar_type());
  input.result = result_type(input.type);
  input.modalities = stacked ? first.size(0) : static_cast<int64_t>(tensors.size());
  input.utterances = first.size(leading);
  input.columns = first.size(leading + 1);
  const auto itemsize = static_cast<int64_t>(first.element_size());
  input.modality_stride = stacked ? first.stride(0) * itemsize : 0;
  input.sources.reserve(tensors.size());
  input.extents.reserve(tensors.size());
  for (const Tensor& tensor : tensors) {
    SPCL_CHECK(tensor.scalar_type() == first.scalar_type(), op, label + " must have one dtype",
               toString(tensor.scalar_type()), " beside ", toString(first.scalar_type()));
    SPCL_CHECK(std::ranges::equal(tensor.sizes(), first.sizes()), op, label + " must have one shape",
               shape_text(tensor), " beside ", shape_text(first));
    input.extents.push_back(checked_extent(op, name, tensor));
    input.sources.push_back({input.extents.back().begin, input.type, tensor.stride(leading) * itemsize,
                             tensor.stride(leading + 1) * itemsize});
  }
  return input;
}

RowsInput checked_logits(const char* op, const std::vector<Tensor>& logits) {
  RowsInput input = checked_rows(op, "logits", 'C', logits);
  SPCL_CHECK(input.columns <= INT32_MAX, op, "logits must have fewer than 2^31 classes", input.columns);
  SPCL_CHECK(input.columns > 0 || input.modalities == 0 || input.utterances == 0, op,
             "logits must have at least one class", shape_text(logits.front()));
  return input;
}

IntegersInput checked_integers(const char* op, const char* name, const Tensor& tensor, int64_t size) {
  IntegersInput input{};
  input.type = integer_type(op, name, tensor.scalar_type());
  SPCL_CHECK(tensor.dim() == 1 && tensor.size(0) == size, op, std::string(name) + " must be [T]",
             shape_text(tensor) + " for T = " + std::to_string(size));
  input.extent = checked_extent(op, name, tensor);
  input.data = input.extent.begin;
  input.stride = tensor.stride(0) * static_cast<int64_t>(tensor.element_size());
  return input;
}

std::vector<int64_t> checked_counts(const char* op, const char* name, const Tensor& tensor, int64_t size) {
  const IntegerType type = integer_type(op, name, tensor.scalar_type());
  SPCL_CHECK(tensor.dim() == 2 && tensor.size(0) == size && tensor.size(1) == size, op,
             std::string(name) + " must be [C, C]", shape_text(tensor) + " for C = " + std::to_string(size));
  const char* data = checked_extent(op, name, tensor).begin;
  const auto itemsize = static_cast<int64_t>(tensor.element_size());
  std::vector<int64_t> values(static_cast<size_t>(size * size));
  for (int64_t k = 0; k < size * size; ++k) {
    const int64_t index = k / size * tensor.stride(0) + k % size * tensor.stride(1);
    const int64_t value = load_integer(type, data + index * itemsize);
    SPCL_CHECK(value >= 0, op, std::string(name) + " must be at least 0", value);
    values[static_cast<size_t>(k)] = value;
  }
  return values;
}

PresentInput checked_present(const char* op, const std::optional<Tensor>& present, int64_t modalities,
                             int64_t utterances) {
  PresentInput input{};
  if (!present) return input;
  SPCL_CHECK(present->scalar_type() == ScalarType::Bool, op, "present must be bool", toString(present->scalar_type()));
  SPCL_CHECK(present->dim() == 2 && present->size(0) == modalities && present->size(1) == utterances, op,
             "present must be [M, T]",
             shape_text(*present) + " for M = " + std::to_string(modalities) + ", T = " + std::to_string(utterances));
  input.extent = checked_extent(op, "present", *present);
  input.data = input.extent.begin;
  input.modality_stride = present->stride(0);
  input.stride = present->stride(1);
  return input;
}

FloatRows checked_floats(const char* op, const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  FloatRows rows{};
  rows.type = float_type(op, name, tensor.scalar_type());
  const auto sizes = tensor.sizes();
  SPCL_CHECK(std::equal(sizes.begin(), sizes.end(), shape.begin(), shape.end()), op,
             std::string(name) + " must have the shape of the batch", shape_text(tensor));
  rows.data = checked_extent(op, name, tensor).begin;
  const auto itemsize = static_cast<int64_t>(tensor.element_size());
  rows.row_stride = tensor.stride(0) * itemsize;
  rows.class_stride = shape.size() > 1 ? tensor.stride(1) * itemsize : 0;
  return rows;
}

std::vector<int64_t> checked_offsets(const char* op, const Tensor& offsets, int64_t utterances) {
  const IntegerType type = integer_type(op, "offsets", offsets.scalar_type());
  SPCL_CHECK(offsets.dim() == 1, op, "offsets must be [D + 1]", shape_text(offsets));
  const char* data = checked_extent(op, "offsets", offsets).begin;
  const int64_t stride = offsets.stride(0) * static_cast<int64_t>(offsets.element_size());
  std::vector<int64_t> values(static_cast<size_t>(offsets.size(0)));
  const Fault fault = read_offsets(type, data, stride, utterances, values);
  SPCL_CHECK(fault.rule.empty(), op, fault.rule, fault.got);
  return values;
}

FloatRows checked_difficulty(const char* op, const Tensor& difficulty) {
  SPCL_CHECK(difficulty.dim() == 1, op, "difficulty must be [T]", shape_text(difficulty));
  return checked_floats(op, "difficulty", difficulty, {difficulty.size(0)});
}

void check_pace(const char* op, std::optional<double> pace, const std::optional<Tensor>& pace_tensor) {
  SPCL_CHECK(pace || pace_tensor, op, "pace must be a number or a tensor", "none");
  SPCL_CHECK(!pace || !pace_tensor, op, "pace must be a number or a tensor", "both");
  if (pace) SPCL_CHECK(*pace > 0 && *pace <= 1, op, "pace must be in (0, 1]", *pace);
  if (!pace_tensor) return;
  SPCL_CHECK(pace_tensor->dim() == 0, op, "pace must be a number or a 0-dim tensor", shape_text(*pace_tensor));
  float_type(op, "pace", pace_tensor->scalar_type());
  checked_extent(op, "pace", *pace_tensor);
}

double checked_pace(const char* op, std::optional<double> pace, const std::optional<Tensor>& pace_tensor) {
  check_pace(op, pace, pace_tensor);
  if (pace) return *pace;
  const auto* data = static_cast<const char*>(pace_tensor->const_data_ptr());
  const double fraction = load_float(float_type(op, "pace", pace_tensor->scalar_type()), data);
  check_pace(op, fraction, std::nullopt);
  return fraction;
}

HistogramInput checked_histogram(const char* op, const Tensor& difficulty, const Tensor& prefix, int64_t level) {
  HistogramInput input{};
  input.are_integers = difficulty.scalar_type() == ScalarType::Long;
  if (input.are_integers) {
    SPCL_CHECK(difficulty.dim() == 1, op, "difficulty must be [T]", shape_text(difficulty));
    const char* data = checked_extent(op, "difficulty", difficulty).begin;
    input.values = {data, FloatType::kFloat64, difficulty.stride(0) * 8, 0};
  } else {
    input.values = checked_difficulty(op, difficulty);
  }
  input.count = difficulty.size(0);
  SPCL_CHECK(prefix.dim() == 0 && prefix.scalar_type() == ScalarType::Long, op, "prefix must be a 0-dim int64 tensor",
             shape_text(prefix) + " of " + toString(prefix.scalar_type()));
  checked_extent(op, "prefix", prefix);
  const int bits = key_bits(input.values.type);
  SPCL_CHECK(level >= 0 && level < digits_of(bits), op,
             "level must be in [0, " + std::to_string(digits_of(bits)) + ") for this dtype", level);
  input.digit = Digit::of(bits, static_cast<int>(level));
  return input;
}

std::optional<double> checked_threshold(const char* op, const std::optional<Tensor>& tensor,
                                        std::optional<double> number) {
  if (tensor) {
    SPCL_CHECK(tensor->dim() == 0, op, "threshold must be a number or a 0-dim tensor", shape_text(*tensor));
    const FloatType type = float_type(op, "threshold", tensor->scalar_type());
    number = load_float(type, checked_extent(op, "threshold", *tensor).begin);
  }
  SPCL_CHECK(!number || *number == *number, op, "threshold must not be NaN", "nan");
  return number;
}

Weighting checked_weighting(const char* op, int64_t scheme, double parameter, std::optional<double> threshold) {
  const Fault fault = weighting_fault(scheme, parameter, threshold);
  SPCL_CHECK(fault.rule.empty(), op, fault.rule, fault.got);
  return {static_cast<Scheme>(scheme), threshold.value_or(0), parameter};
}

}  // namespace spcl
