#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spcl {

/// The four scores as a slab [4, M, T]: loss, confidence, entropy, margin.
torch::stable::Tensor modality_scores_cpu(const std::vector<torch::stable::Tensor>& logits,
                                          const torch::stable::Tensor& labels,
                                          const std::optional<torch::stable::Tensor>& present, int64_t ignore_index);

/// The same, into four tensors [M, T] whose rows are contiguous.
void modality_scores_out_cpu(const std::vector<torch::stable::Tensor>& logits, const torch::stable::Tensor& labels,
                             const std::optional<torch::stable::Tensor>& present, int64_t ignore_index,
                             const torch::stable::Tensor& loss, const torch::stable::Tensor& confidence,
                             const torch::stable::Tensor& entropy, const torch::stable::Tensor& margin);

}  // namespace spcl
