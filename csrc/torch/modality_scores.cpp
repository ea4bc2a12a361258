#include "cpu/modality_scores.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "modality_scores";

FloatType float_type(ScalarType type) {
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
      SPCL_CHECK(false, kOp, "logits must be float16, bfloat16, float32 or float64", toString(type));
  }
  __builtin_unreachable();
}

IntegerType integer_type(ScalarType type) {
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
      SPCL_CHECK(false, kOp, "labels must be integers", toString(type));
  }
  __builtin_unreachable();
}

/// A call whose every tensor was checked: nothing in it can lead outside one.
struct Call {
  int64_t modalities, utterances;
  ScalarType result;                        // dtype of the scores
  int64_t logits_stride, present_stride;    // bytes from one modality to the next; logits: of a stacked tensor
  std::vector<ModalityScoresRows> sources;  // one for each tensor of the list
  std::vector<Extent> inputs;
};

Call checked_call(const std::vector<Tensor>& logits, const Tensor& labels, const std::optional<Tensor>& present,
                  int64_t ignore_index) {
  SPCL_CHECK(!logits.empty(), kOp, "logits must be one tensor [M, T, C] or M tensors [T, C]", "no tensor");
  const Tensor& first = logits.front();
  const bool stacked = logits.size() == 1 && first.dim() == 3;
  const int64_t leading = stacked ? 1 : 0;
  SPCL_CHECK(first.dim() == leading + 2, kOp, "logits must be one tensor [M, T, C] or M tensors [T, C]",
             shape_text(first));
  const FloatType logits_type = float_type(first.scalar_type());

  Call call{};
  call.modalities = stacked ? first.size(0) : static_cast<int64_t>(logits.size());
  call.utterances = first.size(leading);
  call.result = logits_type == FloatType::kFloat64 ? ScalarType::Double : ScalarType::Float;
  const int64_t num_classes = first.size(leading + 1);
  SPCL_CHECK(num_classes <= ModalityScoresRows::max_classes, kOp, "logits must have fewer than 2^31 classes",
             num_classes);
  SPCL_CHECK(num_classes > 0 || call.modalities == 0 || call.utterances == 0, kOp,
             "logits must have at least one class", shape_text(first));

  ModalityScoresRows rows{};
  rows.logits_type = logits_type;
  rows.num_classes = num_classes;
  rows.labels_type = integer_type(labels.scalar_type());
  rows.ignore_index = ignore_index;
  SPCL_CHECK(labels.dim() == 1 && labels.size(0) == call.utterances, kOp, "labels must be [T]",
             shape_text(labels) + " for T = " + std::to_string(call.utterances));
  call.inputs.push_back(checked_extent(kOp, "labels", labels));
  rows.labels = call.inputs.back().begin;
  rows.labels_stride = labels.stride(0) * static_cast<int64_t>(labels.element_size());
  if (present) {
    SPCL_CHECK(present->scalar_type() == ScalarType::Bool, kOp, "present must be bool",
               toString(present->scalar_type()));
    SPCL_CHECK(present->dim() == 2 && present->size(0) == call.modalities && present->size(1) == call.utterances, kOp,
               "present must be [M, T]",
               shape_text(*present) + " for M = " + std::to_string(call.modalities) +
                   ", T = " + std::to_string(call.utterances));
    call.inputs.push_back(checked_extent(kOp, "present", *present));
    rows.present = call.inputs.back().begin;
    rows.present_stride = present->stride(1);
    call.present_stride = present->stride(0);
  }

  const auto itemsize = static_cast<int64_t>(first.element_size());
  call.logits_stride = stacked ? first.stride(0) * itemsize : 0;
  for (const Tensor& tensor : logits) {
    SPCL_CHECK(tensor.scalar_type() == first.scalar_type(), kOp, "logits must have one dtype",
               toString(tensor.scalar_type()), " beside ", toString(first.scalar_type()));
    SPCL_CHECK(std::ranges::equal(tensor.sizes(), first.sizes()), kOp, "logits must have one shape", shape_text(tensor),
               " beside ", shape_text(first));
    call.inputs.push_back(checked_extent(kOp, "logits", tensor));
    rows.logits = call.inputs.back().begin;
    rows.logits_row_stride = tensor.stride(leading) * itemsize;
    rows.logits_class_stride = tensor.stride(leading + 1) * itemsize;
    call.sources.push_back(rows);
  }
  return call;
}

using Outputs = std::array<char*, 4>;  // loss, confidence, entropy, margin

/// Fixed chunks of rows, shared out over torch's threads.
void run(const Call& call, const Outputs& outputs, const std::array<int64_t, 4>& output_strides) {
  const int64_t chunks = (call.utterances + kModalityScoresChunk - 1) / kModalityScoresChunk;
  torch::stable::parallel_for(0, call.modalities * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t m = task / chunks;
      const bool stacked = call.sources.size() == 1;
      ModalityScoresRows rows = call.sources[stacked ? 0 : static_cast<size_t>(m)];
      rows.logits += m * call.logits_stride;
      if (rows.present != nullptr) rows.present += m * call.present_stride;
      rows.loss = outputs[0] + m * output_strides[0];
      rows.confidence = outputs[1] + m * output_strides[1];
      rows.entropy = outputs[2] + m * output_strides[2];
      rows.margin = outputs[3] + m * output_strides[3];
      const int64_t first = task % chunks * kModalityScoresChunk;
      modality_scores(rows, first, std::min(first + kModalityScoresChunk, call.utterances));
    }
  });
}

int64_t itemsize_of(ScalarType result) { return result == ScalarType::Double ? 8 : 4; }

}  // namespace

Tensor modality_scores_cpu(const std::vector<Tensor>& logits, const Tensor& labels,
                           const std::optional<Tensor>& present, int64_t ignore_index) {
  isa();  // throws here, not on a worker thread
  const Call call = checked_call(logits, labels, present, ignore_index);
  const std::array<int64_t, 3> shape{4, call.modalities, call.utterances};
  Tensor slab = torch::stable::empty({shape.data(), shape.size()}, call.result);
  const int64_t row_bytes = call.utterances * itemsize_of(call.result);
  char* data = static_cast<char*>(slab.mutable_data_ptr());
  Outputs outputs{};
  for (size_t k = 0; k < outputs.size(); ++k) {
    outputs[k] = data + static_cast<int64_t>(k) * call.modalities * row_bytes;
  }
  run(call, outputs, {row_bytes, row_bytes, row_bytes, row_bytes});
  return slab;
}

void modality_scores_out_cpu(const std::vector<Tensor>& logits, const Tensor& labels,
                             const std::optional<Tensor>& present, int64_t ignore_index, const Tensor& loss,
                             const Tensor& confidence, const Tensor& entropy, const Tensor& margin) {
  isa();
  const Call call = checked_call(logits, labels, present, ignore_index);
  std::vector<Extent> taken = call.inputs;
  Outputs outputs{};
  std::array<int64_t, 4> output_strides{};
  size_t k = 0;
  for (const auto& [name, tensor] : {std::pair<const char*, const Tensor&>{"loss", loss},
                                     {"confidence", confidence},
                                     {"entropy", entropy},
                                     {"margin", margin}}) {
    const std::string label(name);
    SPCL_CHECK(tensor.scalar_type() == call.result, kOp, label + " must have the dtype of the scores",
               toString(tensor.scalar_type()));
    SPCL_CHECK(tensor.dim() == 2 && tensor.size(0) == call.modalities && tensor.size(1) == call.utterances, kOp,
               label + " must be [M, T]", shape_text(tensor));
    SPCL_CHECK(tensor.size(1) <= 1 || tensor.stride(1) == 1, kOp, label + " must have contiguous rows",
               "stride " + std::to_string(tensor.stride(1)));
    SPCL_CHECK(tensor.size(0) <= 1 || tensor.stride(0) >= tensor.size(1), kOp,
               label + " must have rows that do not overlap", "stride " + std::to_string(tensor.stride(0)));
    const Extent extent = checked_extent(kOp, name, tensor);
    for (const Extent& other : taken) {
      SPCL_CHECK(!extent.overlaps(other), kOp, "outputs must overlap neither inputs nor one another", label);
    }
    taken.push_back(extent);
    outputs[k] = static_cast<char*>(tensor.mutable_data_ptr());
    output_strides[k] = tensor.stride(0) * itemsize_of(call.result);
    ++k;
  }
  run(call, outputs, output_strides);
}

}  // namespace spcl
