#include <torch/csrc/stable/ops.h>

#include <vector>

#include "cpu/emotion_transitions_run.h"
#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "emotion_transitions";

}  // namespace

TransitionsTensors emotion_transitions_cpu(const Tensor& labels, const Tensor& speakers, const Tensor& offsets,
                                           int64_t num_classes, const std::optional<Tensor>& similarity,
                                           const std::optional<Tensor>& fitted, int64_t ignore_index, bool breaks,
                                           bool by_speaker, bool weighs_both) {
  isa();  // throws here, not on a worker thread
  SPCL_CHECK(num_classes >= 1 && num_classes <= TransitionsBatch::max_classes, kOp,
             "num_classes must lie in [1, " + std::to_string(TransitionsBatch::max_classes) + "]", num_classes);
  SPCL_CHECK(labels.dim() == 1, kOp, "labels must be [T]", shape_text(labels));
  const int64_t utterances = labels.size(0);
  const IntegersInput y = checked_integers(kOp, "labels", labels, utterances);
  const IntegersInput who = checked_integers(kOp, "speakers", speakers, utterances);
  const std::vector<int64_t> bounds = checked_offsets(kOp, offsets, utterances);

  TransitionsBatch batch{};
  batch.labels = y.data;
  batch.labels_type = y.type;
  batch.labels_stride = y.stride;
  batch.speakers = who.data;
  batch.speakers_type = who.type;
  batch.speakers_stride = who.stride;
  batch.offsets = bounds.data();
  batch.utterances = utterances;
  batch.dialogues = static_cast<int64_t>(bounds.size()) - 1;
  batch.num_classes = num_classes;
  batch.ignore_index = ignore_index;
  batch.breaks = breaks;
  batch.by_speaker = by_speaker;
  batch.weighs_both = weighs_both;
  std::vector<double> changes;
  if (similarity) {
    const FloatRows rows = checked_floats(kOp, "similarity", *similarity, {num_classes, num_classes});
    changes.resize(static_cast<size_t>(TransitionNumbers(num_classes).count()));
    fill_changes(rows, num_classes, changes.data());
    batch.changes = changes.data();
    batch.is_wide = rows.type == FloatType::kFloat64;
  }
  std::vector<int64_t> over;
  if (fitted) over = checked_counts(kOp, "counts", *fitted, num_classes);

  const ScalarType real = batch.is_wide ? ScalarType::Double : ScalarType::Float;
  Tensor counts = new_tensor({num_classes, num_classes}, ScalarType::Long);
  Tensor same = new_tensor({batch.dialogues}, ScalarType::Long);
  Tensor cross = new_tensor({batch.dialogues}, ScalarType::Long);
  Tensor num_speakers = new_tensor({batch.dialogues}, ScalarType::Long);
  Tensor difficulty = new_tensor({batch.dialogues}, real);
  Tensor surprisal = new_tensor({utterances}, real);
  batch.same_speaker_shifts = static_cast<int64_t*>(same.mutable_data_ptr());
  batch.cross_speaker_shifts = static_cast<int64_t*>(cross.mutable_data_ptr());
  batch.num_speakers = static_cast<int64_t*>(num_speakers.mutable_data_ptr());
  batch.difficulty = difficulty.mutable_data_ptr();
  batch.surprisal = surprisal.mutable_data_ptr();
  run_transitions(batch, fitted ? over.data() : nullptr, static_cast<int64_t*>(counts.mutable_data_ptr()),
                  [](int64_t chunks, const auto& body) {
                    if (chunks == 1) return body(0, 1);
                    torch::stable::parallel_for(0, chunks, 1, body);
                  });
  return {counts, same, cross, num_speakers, difficulty, surprisal};
}

}  // namespace spcl
