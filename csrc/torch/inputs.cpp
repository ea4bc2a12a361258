#include "torch/inputs.h"

#include <algorithm>
#include <string>

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

LogitsInput checked_logits(const char* op, const std::vector<Tensor>& logits) {
  SPCL_CHECK(!logits.empty(), op, "logits must be one tensor [M, T, C] or M tensors [T, C]", "no tensor");
  const Tensor& first = logits.front();
  const bool stacked = logits.size() == 1 && first.dim() == 3;
  const int64_t leading = stacked ? 1 : 0;
  SPCL_CHECK(first.dim() == leading + 2, op, "logits must be one tensor [M, T, C] or M tensors [T, C]",
             shape_text(first));
  LogitsInput input{};
  input.type = float_type(op, "logits", first.scalar_type());
  input.result = result_type(input.type);
  input.modalities = stacked ? first.size(0) : static_cast<int64_t>(logits.size());
  input.utterances = first.size(leading);
  input.num_classes = first.size(leading + 1);
  SPCL_CHECK(input.num_classes <= INT32_MAX, op, "logits must have fewer than 2^31 classes", input.num_classes);
  SPCL_CHECK(input.num_classes > 0 || input.modalities == 0 || input.utterances == 0, op,
             "logits must have at least one class", shape_text(first));
  const auto itemsize = static_cast<int64_t>(first.element_size());
  input.modality_stride = stacked ? first.stride(0) * itemsize : 0;
  input.sources.reserve(logits.size());
  input.extents.reserve(logits.size());
  for (const Tensor& tensor : logits) {
    SPCL_CHECK(tensor.scalar_type() == first.scalar_type(), op, "logits must have one dtype",
               toString(tensor.scalar_type()), " beside ", toString(first.scalar_type()));
    SPCL_CHECK(std::ranges::equal(tensor.sizes(), first.sizes()), op, "logits must have one shape", shape_text(tensor),
               " beside ", shape_text(first));
    input.extents.push_back(checked_extent(op, "logits", tensor));
    input.sources.push_back({input.extents.back().begin, input.type, tensor.stride(leading) * itemsize,
                             tensor.stride(leading + 1) * itemsize});
  }
  return input;
}

LabelsInput checked_labels(const char* op, const Tensor& labels, int64_t utterances) {
  LabelsInput input{};
  input.type = integer_type(op, "labels", labels.scalar_type());
  SPCL_CHECK(labels.dim() == 1 && labels.size(0) == utterances, op, "labels must be [T]",
             shape_text(labels) + " for T = " + std::to_string(utterances));
  input.extent = checked_extent(op, "labels", labels);
  input.data = input.extent.begin;
  input.stride = labels.stride(0) * static_cast<int64_t>(labels.element_size());
  return input;
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

LogitRows checked_floats(const char* op, const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  LogitRows rows{};
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
  const int64_t size = offsets.size(0);
  SPCL_CHECK(size > 0, op, "offsets must have at least one entry", "none");
  const char* data = checked_extent(op, "offsets", offsets).begin;
  const int64_t stride = offsets.stride(0) * static_cast<int64_t>(offsets.element_size());
  std::vector<int64_t> values(static_cast<size_t>(size));
  int64_t before = 0;
  for (int64_t d = 0; d < size; ++d) {
    const int64_t value = load_integer(type, data + d * stride);
    const bool fits =
        value >= before && value <= utterances && (d > 0 || value == 0) && (d + 1 < size || value == utterances);
    if (!fits) {
      const std::string rows = std::to_string(utterances);
      std::string rule = "offsets must never fall and stay within [0, " + rows + "]";
      if (d + 1 == size) rule = "offsets must end at the number of utterances, " + rows;
      if (d == 0) rule = "offsets must start at 0";
      const std::string after = d == 0 ? "" : ", after " + std::to_string(before);
      SPCL_CHECK(false, op, rule, value, " at position ", d, after);
    }
    values[static_cast<size_t>(d)] = before = value;
  }
  return values;
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

}  // namespace spcl
