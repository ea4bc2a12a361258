#include <pybind11/pybind11.h>

#include <vector>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/emotion_transitions_run.h"
#include "cpu/isa.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "emotion_transitions";

}  // namespace

py::tuple emotion_transitions(const py::array& labels, const py::array& speakers, const py::array& offsets,
                              int64_t num_classes, const std::optional<py::array>& similarity,
                              const std::optional<py::array>& fitted, int64_t ignore_index, bool breaks,
                              bool by_speaker, bool weighs_both) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  check(kOp, num_classes >= 1 && num_classes <= TransitionsBatch::max_classes,
        "num_classes must lie in [1, " + std::to_string(TransitionsBatch::max_classes) + "]",
        std::to_string(num_classes));
  check(kOp, labels.ndim() == 1, "labels must be [T]", shape_text(labels));
  const int64_t utterances = labels.shape(0);
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
  FloatType real = FloatType::kFloat32;
  if (similarity) {
    const FloatRows rows = checked_floats(kOp, "similarity", *similarity, {num_classes, num_classes});
    changes.resize(static_cast<size_t>(TransitionNumbers(num_classes).count()));
    fill_changes(rows, num_classes, changes.data());
    batch.changes = changes.data();
    batch.is_wide = rows.type == FloatType::kFloat64;
    real = rows.type;
  }
  std::vector<int64_t> over;
  if (fitted) over = checked_counts(kOp, "counts", *fitted, num_classes);

  const auto integers = [](std::vector<py::ssize_t> shape) { return py::array_t<int64_t>(shape); };
  py::array_t<int64_t> counts = integers({num_classes, num_classes}), same = integers({batch.dialogues}),
                       cross = integers({batch.dialogues}), num_speakers = integers({batch.dialogues});
  py::array difficulty = new_array(real, {batch.dialogues}), surprisal = new_array(real, {utterances});
  batch.same_speaker_shifts = same.mutable_data();
  batch.cross_speaker_shifts = cross.mutable_data();
  batch.num_speakers = num_speakers.mutable_data();
  batch.difficulty = difficulty.mutable_data();
  batch.surprisal = surprisal.mutable_data();
  int64_t* table = counts.mutable_data();
  {
    const py::gil_scoped_release release;
    run_transitions(batch, fitted ? over.data() : nullptr, table,
                    [](int64_t chunks, const auto& body) { body(0, chunks); });
  }
  return py::make_tuple(counts, same, cross, num_speakers, difficulty, surprisal);
}

}  // namespace spcl::arrays
