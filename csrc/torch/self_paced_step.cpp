#include "cpu/self_paced_step.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "cpu/isa.h"
#include "cpu/step_run.h"
#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "self_paced_step";
/// Shares the ranges of a batch out over torch's threads.
constexpr auto kOnThreads = [](int64_t tasks, const auto& body) { torch::stable::parallel_for(0, tasks, 1, body); };

template <class Real>
void scale_all(void* values, int64_t count, double factor) {
  Real* numbers = static_cast<Real*>(values);
  torch::stable::parallel_for(0, count, 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) numbers[k] *= static_cast<Real>(factor);
  });
}

}  // namespace

StepTensors self_paced_step_cpu(const std::vector<Tensor>& logits, const Tensor& labels, const Tensor& offsets,
                                const std::optional<Tensor>& threshold_tensor, std::optional<double> threshold,
                                const std::optional<Tensor>& joint, const std::optional<Tensor>& extra_difficulty,
                                const std::optional<Tensor>& class_weight, const std::optional<Tensor>& present,
                                int64_t measure, int64_t scheme, double scheme_parameter, bool groups_are_dialogues,
                                bool divides_by_weight, bool of_means, double label_smoothing, int64_t ignore_index,
                                bool flags, bool needs_gradient) {
  isa();  // throws here, not on a worker thread
  const RowsInput z = checked_logits(kOp, logits);
  const Fault missing = measure_fault(measure, z.modalities, extra_difficulty.has_value());
  SPCL_CHECK(missing.rule.empty(), kOp, missing.rule, missing.got);
  SPCL_CHECK(z.modalities < 1 << 16, kOp, "modalities must be fewer than 65536", z.modalities);
  SPCL_CHECK(z.columns > 0, kOp, "logits must have at least one class", z.columns);
  SPCL_CHECK(label_smoothing >= 0 && label_smoothing <= 1, kOp, "label_smoothing must lie in [0, 1]", label_smoothing);
  const LabelRows y = checked_integers(kOp, "labels", labels, z.utterances).rows(ignore_index, z.columns);
  const PresentInput has = checked_present(kOp, present, z.modalities, z.utterances);
  const std::vector<int64_t> bounds = checked_offsets(kOp, offsets, z.utterances);
  const std::optional<double> lambda = checked_threshold(kOp, threshold_tensor, threshold);

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
    SPCL_CHECK(fault.rule.empty(), kOp, fault.rule, fault.got);
  }
  batch.label_smoothing = label_smoothing;
  batch.measure = static_cast<Measure>(measure);
  batch.selects_all = !lambda;
  batch.weighting = checked_weighting(kOp, scheme, scheme_parameter, lambda);
  batch.groups_are_dialogues = groups_are_dialogues;
  batch.of_means = of_means;

  const int64_t T = z.utterances, M = z.modalities;
  Tensor loss = new_tensor({}, z.result);
  Tensor weight = new_tensor({T}, z.result);
  Tensor difficulty = new_tensor({T}, z.result);
  Tensor utterance_loss = new_tensor({T}, z.result);
  Tensor confidence = new_tensor({M, T}, z.result);
  Tensor spread = new_tensor({static_cast<int64_t>(bounds.size()) - 1}, z.result);
  Tensor gradient = new_tensor({needs_gradient ? T : 0, z.columns}, z.result);
  Tensor counts = new_tensor({7}, ScalarType::Long);
  Tensor sums = new_tensor({2 + 2 * M}, ScalarType::Double);
  batch.weight = weight.mutable_data_ptr();
  batch.difficulty = difficulty.mutable_data_ptr();
  batch.utterance_loss = utterance_loss.mutable_data_ptr();
  batch.confidence = confidence.mutable_data_ptr();
  batch.spread = spread.mutable_data_ptr();
  batch.gradient = needs_gradient ? gradient.mutable_data_ptr() : nullptr;

  auto* sums_data = static_cast<double*>(sums.mutable_data_ptr());
  StepWork totals{};
  totals.confidence = sums_data + 1;
  totals.selected_confidence = totals.confidence + M;
  StepRun run(batch, bounds, kOnThreads);
  const auto scale_for = [](double norm) { return norm > 0 ? 1 / norm : 1; };
  // The gradient is divided by the number of scored utterances as it is written, so that it is written once. A
  // faulty logit makes that number wrong; then the batch is scored again.
  int64_t expected = needs_gradient && !divides_by_weight ? run.candidates() : 0;
  while (true) {
    batch.gradient_scale = divides_by_weight ? 1 : scale_for(static_cast<double>(expected));
    run.step(totals);
    if (!needs_gradient || divides_by_weight || totals.sums.scored == expected) break;
    expected = totals.sums.scored;
  }
  const double norm = step_norm(totals.sums, divides_by_weight);
  const double mean = step_loss(totals.sums, divides_by_weight);
  if (z.result == ScalarType::Double) {
    *static_cast<double*>(loss.mutable_data_ptr()) = mean;
    if (needs_gradient && divides_by_weight) scale_all<double>(batch.gradient, T * z.columns, scale_for(norm));
  } else {
    *static_cast<float*>(loss.mutable_data_ptr()) = static_cast<float>(mean);
    if (needs_gradient && divides_by_weight) scale_all<float>(batch.gradient, T * z.columns, scale_for(norm));
  }
  sums_data[0] = totals.sums.loss;
  sums_data[1 + 2 * M] = totals.sums.weight;
  const int64_t found[7] = {1,
                            totals.sums.scored,
                            totals.sums.selected,
                            flags ? totals.sums.nonfinite : 0,
                            flags ? totals.sums.bad_label : 0,
                            0,  // offsets that are wrong were refused
                            totals.sums.undefined};
  std::copy_n(found, 7, static_cast<int64_t*>(counts.mutable_data_ptr()));
  return {loss, weight, difficulty, utterance_loss, confidence, spread, gradient, counts, sums};
}

}  // namespace spcl
