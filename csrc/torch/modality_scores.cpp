#include "cpu/modality_scores.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <vector>

#include "cpu/isa.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"
#include "torch/scores_call.h"
#include "torch/scores_outputs.h"

namespace spcl {
namespace {

constexpr const char* kOp = "modality_scores";

using Outputs = std::array<char*, 4>;  // loss, confidence, entropy, margin

/// Fixed chunks of rows, shared out over torch's threads.
void run(const ScoresCall& call, const Outputs& outputs, const std::array<int64_t, 4>& output_strides) {
  const int64_t utterances = call.logits.utterances;
  if (utterances == 0) return;
  std::vector<ModalityScoresRows> rows;
  for (int64_t m = 0; m < call.logits.modalities; ++m) {
    rows.push_back(call.rows(m));
    rows.back().loss = outputs[0] + m * output_strides[0];
    rows.back().confidence = outputs[1] + m * output_strides[1];
    rows.back().entropy = outputs[2] + m * output_strides[2];
    rows.back().margin = outputs[3] + m * output_strides[3];
  }
  const int64_t chunks = (utterances + kModalityScoresChunk - 1) / kModalityScoresChunk;
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kModalityScoresChunk; first < std::min(end * kModalityScoresChunk, utterances);
         first += kModalityScoresChunk) {
      modality_scores(rows.data(), call.logits.modalities, call.labels, first,
                      std::min(first + kModalityScoresChunk, utterances));
    }
  });
}

}  // namespace

Tensor modality_scores_cpu(const std::vector<Tensor>& logits, const Tensor& labels,
                           const std::optional<Tensor>& present, int64_t ignore_index) {
  isa();  // throws here, not on a worker thread
  const ScoresCall call = checked_scores_call(kOp, logits, labels, present, ignore_index);
  Tensor slab = new_tensor({4, call.logits.modalities, call.logits.utterances}, call.logits.result);
  const int64_t row_bytes = call.logits.utterances * itemsize_of(call.logits.result);
  char* data = static_cast<char*>(slab.mutable_data_ptr());
  Outputs outputs{};
  for (size_t k = 0; k < outputs.size(); ++k) {
    outputs[k] = data + static_cast<int64_t>(k) * call.logits.modalities * row_bytes;
  }
  run(call, outputs, {row_bytes, row_bytes, row_bytes, row_bytes});
  return slab;
}

void modality_scores_out_cpu(const std::vector<Tensor>& logits, const Tensor& labels,
                             const std::optional<Tensor>& present, int64_t ignore_index, const Tensor& loss,
                             const Tensor& confidence, const Tensor& entropy, const Tensor& margin) {
  isa();
  const ScoresCall call = checked_scores_call(kOp, logits, labels, present, ignore_index);
  const ScoresOut out = checked_scores_out(kOp, call, loss, confidence, entropy, margin);
  run(call, out.data, out.modality_strides);
}

}  // namespace spcl
