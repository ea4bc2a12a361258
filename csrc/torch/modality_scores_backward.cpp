#include "cpu/modality_scores_backward.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <string>

#include "cpu/isa.h"
#include "torch/check.h"
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
  char* data = static_cast<char*>(gradient.mutable_data_ptr());
  const int64_t modality_bytes = z.utterances * z.columns * static_cast<int64_t>(gradient.element_size());
  const int64_t rows_a_chunk = modality_scores_backward_chunk(z.columns);
  const int64_t chunks = (z.utterances + rows_a_chunk - 1) / rows_a_chunk;
  torch::stable::parallel_for(0, z.modalities * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t m = task / chunks;
      ModalityScoresBackwardRows rows{};
      rows.inputs = call.rows(m);
      rows.loss = modality(of_loss, m);
      rows.confidence = modality(of_confidence, m);
      rows.entropy = modality(of_entropy, m);
      rows.margin = modality(of_margin, m);
      rows.gradient = data + m * modality_bytes;
      const int64_t first = task % chunks * rows_a_chunk;
      modality_scores_backward(rows, first, std::min(first + rows_a_chunk, z.utterances));
    }
  });
  return gradient;
}

}  // namespace spcl
