#include "cuda/self_paced_step.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "torch/cuda/weighting.h"

namespace spcl {
namespace {

constexpr const char* kOp = "self_paced_step";

using StepTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

/// As on the CPU, but the gradient is not divided by what the loss is divided by: self_paced_step_backward does that.
/// The data of tensors is not looked at here, so a class without a proper weight is not refused but not scored, and
/// offsets are read as their running maximum within [0, T].
StepTensors self_paced_step_on_device(const std::vector<Tensor>& logits, const Tensor& labels, const Tensor& offsets,
                                      const std::optional<Tensor>& threshold_tensor, std::optional<double> threshold,
                                      const std::optional<Tensor>& joint, const std::optional<Tensor>& extra_difficulty,
                                      const std::optional<Tensor>& class_weight, const std::optional<Tensor>& present,
                                      int64_t measure, int64_t scheme, double scheme_parameter,
                                      bool /*groups_are_dialogues*/, bool divides_by_weight, bool of_means,
                                      double label_smoothing, int64_t ignore_index, bool flags, bool needs_gradient) {
  SPCL_CHECK(!logits.empty(), kOp, "logits must be one tensor [M, T, C] or M tensors [T, C]", "no tensor");
  const DeviceCall call(kOp, logits.front());
  call.require("logits", logits);
  call.require("labels", labels);
  call.require("offsets", offsets);
  call.require("threshold", threshold_tensor);
  call.require("joint", joint);
  call.require("extra_difficulty", extra_difficulty);
  call.require("class_weight", class_weight);
  call.require("present", present);
  const RowsInput z = checked_logits(kOp, logits);
  const int64_t T = z.utterances, M = z.modalities;
  const Fault missing = measure_fault(measure, M, extra_difficulty.has_value());
  SPCL_CHECK(missing.rule.empty(), kOp, missing.rule, missing.got);
  SPCL_CHECK(M <= kMostStepModalities, kOp,
             "a GPU takes at most " + std::to_string(kMostStepModalities) + " modalities", M);
  SPCL_CHECK(z.columns > 0, kOp, "logits must have at least one class", z.columns);
  SPCL_CHECK(label_smoothing >= 0 && label_smoothing <= 1, kOp, "label_smoothing must lie in [0, 1]", label_smoothing);

  StepCall batch{};
  batch.logits = sources_of(kOp, "logits", z);
  batch.labels = labels_of(checked_integers(kOp, "labels", labels, T), ignore_index, z.columns);
  batch.present = present_of(checked_present(kOp, present, M, T));
  const Integers bounds = offsets_of(kOp, offsets);
  const int64_t dialogues = offsets.size(0) - 1;
  batch.offsets = dialogue_offsets(bounds, dialogues, T);
  if (joint) {
    const FloatRows given = checked_floats(kOp, "joint", *joint, {T, z.columns});
    batch.joint = {given.data, given.row_stride, given.class_stride};
    batch.joint_type = given.type;
  }
  batch.extra_difficulty = numbers_of(kOp, "extra_difficulty", extra_difficulty, T);
  batch.class_weight = numbers_of(kOp, "class_weight", class_weight, z.columns);
  batch.label_smoothing = label_smoothing;
  batch.measure = static_cast<Measure>(measure);
  batch.selects_all = !threshold_tensor && !threshold;
  batch.weighting = device_weighting(kOp, scheme, scheme_parameter, threshold_tensor, threshold);
  batch.of_means = of_means;
  batch.divides_by_weight = divides_by_weight;
  batch.flags = flags;

  Tensor loss = call.empty({}, z.result);
  Tensor weight = call.empty({T}, z.result);
  Tensor difficulty = call.empty({T}, z.result);
  Tensor utterance_loss = call.empty({T}, z.result);
  Tensor confidence = call.empty({M, T}, z.result);
  Tensor spread = call.empty({dialogues}, z.result);
  Tensor gradient = call.empty({needs_gradient ? T : 0, z.columns}, z.result);
  Tensor counts = call.empty({7}, ScalarType::Long);
  Tensor sums = call.empty({2 + 2 * M}, ScalarType::Double);
  batch.loss = loss.mutable_data_ptr();
  batch.weight = weight.mutable_data_ptr();
  batch.difficulty = difficulty.mutable_data_ptr();
  batch.utterance_loss = utterance_loss.mutable_data_ptr();
  batch.confidence = confidence.mutable_data_ptr();
  batch.spread = spread.mutable_data_ptr();
  batch.gradient = needs_gradient && T > 0 ? gradient.mutable_data_ptr() : nullptr;
  batch.counts = static_cast<int64_t*>(counts.mutable_data_ptr());
  batch.sums = static_cast<double*>(sums.mutable_data_ptr());

  const Tensor workspace = call.workspace(self_paced_step_bytes(batch));
  self_paced_step_cuda(batch, workspace.mutable_data_ptr(), call.stream());
  call.check_launches();
  return {loss, weight, difficulty, utterance_loss, confidence, spread, gradient, counts, sums};
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("self_paced_step", TORCH_BOX(&spcl::self_paced_step_on_device));
}
