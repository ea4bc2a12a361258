#include "cpu/modality_scores_backward.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"
#include "torch/scores_call.h"

namespace spcl {
namespace {

constexpr const char* kOp = "modality_scores_backward";

/// Gradients [M, T] of one score; `class_stride` is that of the utterances.
FloatRows checked_gradient(const char* name, const std::optional<Tensor>& gradient, const RowsInput& logits) {
  if (!gradient) return {};
  SPCL_CHECK(gradient->scalar_type() == logits.result, kOp, std::string(name) + " must have the dtype of the scores",
             toString(gradient->scalar_type()));
  return checked_floats(kOp, name, *gradient, {logits.modalities, logits.utterances});
}

ScoreGradientRows modality(const FloatRows& gradient, int64_t m) {
  if (gradient.data == nullptr) return {};
  return {gradient.data + m * gradient.row_stride, gradient.class_stride};
}

}  // namespace

Tensor modality_scores_backward_cpu(const std::vector<Tensor>& logits, const Tensor& labels,
                                    const std::optional<Tensor>& present, int64_t ignore_index,
                                    const std::optional<Tensor>& grad_loss,
                                    const std::optional<Tensor>& grad_confidence,
                                    const std::optional<Tensor>& grad_entropy,
                                    const std::optional<Tensor>& grad_margin) {
  isa();  // throws here, not on a worker thread
  const ScoresCall call = checked_scores_call(kOp, logits, labels, present, ignore_index);
  const RowsInput& z = call.logits;
  const FloatRows of_loss = checked_gradient("grad_loss", grad_loss, z);
  const FloatRows of_confidence = checked_gradient("grad_confidence", grad_confidence, z);
  const FloatRows of_entropy = checked_gradient("grad_entropy", grad_entropy, z);
  const FloatRows of_margin = checked_gradient("grad_margin", grad_margin, z);

  const std::array<int64_t, 3> shape{z.modalities, z.utterances, z.columns};
  Tensor gradient = torch::stable::empty({shape.data(), shape.size()}, logits.front().scalar_type());
  if (gradient.numel() == 0) return gradient;
  char* data = static_cast<char*>(gradient.mutable_data_ptr());
  const int64_t bytes = gradient.numel() * static_cast<int64_t>(gradient.element_size());
  use_large_pages(data, bytes);
  std::vector<ModalityScoresBackwardRows> rows;
  for (int64_t m = 0; m < z.modalities; ++m) {
    rows.push_back({call.rows(m), modality(of_loss, m), modality(of_confidence, m), modality(of_entropy, m),
                    modality(of_margin, m), data + m * (bytes / z.modalities)});
  }
  const int64_t chunk = modality_scores_backward_chunk(z.columns);
  const int64_t chunks = (z.utterances + chunk - 1) / chunk;
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * chunk; first < std::min(end * chunk, z.utterances); first += chunk) {
      modality_scores_backward(rows.data(), z.modalities, call.labels, first, std::min(first + chunk, z.utterances));
    }
  });
  return gradient;
}

}  // namespace spcl
