#include "cpu/self_paced_step.h"

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"
#include "cpu/step_run.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "self_paced_step";

constexpr auto kInTurn = [](int64_t tasks, const auto& body) { body(0, tasks); };

}  // namespace

py::tuple self_paced_step(const std::vector<py::array>& logits, const py::array& labels, const py::array& offsets,
                          std::optional<double> threshold, const std::optional<py::array>& joint,
                          const std::optional<py::array>& extra_difficulty,
                          const std::optional<py::array>& class_weight, const std::optional<py::array>& present,
                          int64_t measure, int64_t scheme, double scheme_parameter, bool groups_are_dialogues,
                          bool divides_by_weight, bool of_means, double label_smoothing, int64_t ignore_index) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const RowsInput z = checked_logits(kOp, logits);
  const Fault missing = measure_fault(measure, z.modalities, extra_difficulty.has_value());
  check(kOp, missing.rule.empty(), missing.rule, missing.got);
  check(kOp, z.columns > 0, "logits must have at least one class", shape_text(logits.front()));
  check(kOp, label_smoothing >= 0 && label_smoothing <= 1, "label_smoothing must lie in [0, 1]",
        std::to_string(label_smoothing));
  const LabelRows y = checked_integers(kOp, "labels", labels, z.utterances).rows(ignore_index, z.columns);
  const PresentInput has = checked_present(kOp, present, z.modalities, z.utterances);
  const std::vector<int64_t> bounds = checked_offsets(kOp, offsets, z.utterances);

  std::vector<FloatRows> modalities;
  StepBatch batch = step_batch(z, y, has, modalities);
  if (joint) batch.joint = checked_floats(kOp, "joint", *joint, {z.utterances, z.columns});
  if (extra_difficulty) {
    const FloatRows extra = checked_floats(kOp, "extra_difficulty", *extra_difficulty, {z.utterances});
    batch.extra_difficulty = extra.data;
    batch.extra_type = extra.type;
    batch.extra_stride = extra.row_stride;
  }
  std::vector<double> weights;
  if (class_weight) {
    const FloatRows given = checked_floats(kOp, "class_weight", *class_weight, {z.columns});
    const Fault fault = take_class_weight(given, weights, batch);
    check(kOp, fault.rule.empty(), fault.rule, fault.got);
  }
  batch.label_smoothing = label_smoothing;
  batch.measure = static_cast<Measure>(measure);
  batch.selects_all = !threshold;
  batch.weighting = checked_weighting(kOp, scheme, scheme_parameter, threshold);
  batch.groups_are_dialogues = groups_are_dialogues;
  batch.of_means = of_means;

  const int64_t T = z.utterances, M = z.modalities;
  py::array weight = new_array(z.type, {T});
  py::array difficulty = new_array(z.type, {T});
  py::array utterance_loss = new_array(z.type, {T});
  py::array confidence = new_array(z.type, {M, T});
  py::array spread = new_array(z.type, {static_cast<int64_t>(bounds.size()) - 1});
  py::array_t<double> confidence_sum(M), selected_confidence_sum(M);
  batch.weight = weight.mutable_data();
  batch.difficulty = difficulty.mutable_data();
  batch.utterance_loss = utterance_loss.mutable_data();
  batch.confidence = confidence.mutable_data();
  batch.spread = spread.mutable_data();
  StepWork totals{};
  totals.confidence = confidence_sum.mutable_data();
  totals.selected_confidence = selected_confidence_sum.mutable_data();
  {
    const py::gil_scoped_release release;
    StepRun(batch, bounds, kInTurn).step(totals);
  }
  const StepSums& sums = totals.sums;
  const double loss = step_loss(sums, divides_by_weight);
  return py::make_tuple(loss, weight, difficulty, utterance_loss, confidence, spread,
                        py::make_tuple(sums.scored, sums.selected, sums.nonfinite, sums.bad_label, sums.undefined,
                                       sums.loss, confidence_sum, selected_confidence_sum, sums.weight));
}

}  // namespace spcl::arrays
