#pragma once

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "torch/scores_call.h"

namespace spcl {

/// Where the scores go: loss, confidence, entropy, margin. Strides in bytes.
struct ScoresOut {
  std::array<char*, 4> data;
  std::array<int64_t, 4> modality_strides;
};

/// Four tensors [M, T] with contiguous rows, which overlap neither the inputs of `call` nor one another.
inline ScoresOut checked_scores_out(const char* op, const ScoresCall& call, const Tensor& loss,
                                    const Tensor& confidence, const Tensor& entropy, const Tensor& margin) {
  std::vector<Extent> taken = call.logits.extents;
  taken.push_back(call.label_extent);
  taken.push_back(call.present.extent);
  ScoresOut out{};
  size_t k = 0;
  for (const auto& [name, tensor] : {std::pair<const char*, const Tensor&>{"loss", loss},
                                     {"confidence", confidence},
                                     {"entropy", entropy},
                                     {"margin", margin}}) {
    const std::string label(name);
    SPCL_CHECK(tensor.scalar_type() == call.logits.result, op, label + " must have the dtype of the scores",
               toString(tensor.scalar_type()));
    SPCL_CHECK(
        tensor.dim() == 2 && tensor.size(0) == call.logits.modalities && tensor.size(1) == call.logits.utterances, op,
        label + " must be [M, T]", shape_text(tensor));
    SPCL_CHECK(tensor.size(1) <= 1 || tensor.stride(1) == 1, op, label + " must have contiguous rows",
               "stride " + std::to_string(tensor.stride(1)));
    SPCL_CHECK(tensor.size(0) <= 1 || tensor.stride(0) >= tensor.size(1), op,
               label + " must have rows that do not overlap", "stride " + std::to_string(tensor.stride(0)));
    const Extent extent = checked_extent(op, name, tensor);
    for (const Extent& other : taken) {
      SPCL_CHECK(!extent.overlaps(other), op, "outputs must overlap neither inputs nor one another", label);
    }
    taken.push_back(extent);
    out.data[k] = static_cast<char*>(tensor.mutable_data_ptr());
    out.modality_strides[k] = tensor.stride(0) * itemsize_of(call.logits.result);
    ++k;
  }
  return out;
}

}  // namespace spcl
