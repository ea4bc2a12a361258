#include <torch/csrc/stable/library.h>

#include "torch/cuda/scores_inputs.h"

namespace spcl {
namespace {

constexpr const char* kOp = "modality_scores_backward";

/// Gradients [M, T] of one score.
ScoreGradient checked_gradient(const DeviceCall& device, const char* name, const std::optional<Tensor>& gradient,
                               const RowsInput& logits) {
  if (!gradient) return {};
  device.require(name, gradient);
  SPCL_CHECK(gradient->scalar_type() == logits.result, kOp, std::string(name) + " must have the dtype of the scores",
             toString(gradient->scalar_type()));
  const FloatRows rows = checked_floats(kOp, name, *gradient, {logits.modalities, logits.utterances});
  return {rows.data, rows.row_stride, rows.class_stride};
}

Tensor modality_scores_backward_on_device(const std::vector<Tensor>& logits, const Tensor& labels,
                                          const std::optional<Tensor>& present, int64_t ignore_index,
                                          const std::optional<Tensor>& grad_loss,
                                          const std::optional<Tensor>& grad_confidence,
                                          const std::optional<Tensor>& grad_entropy,
                                          const std::optional<Tensor>& grad_margin) {
  const ScoresCall call = checked_scores_call(kOp, logits, labels, present, ignore_index);
  const DeviceCall device(kOp, labels);
  require_device(device, logits, labels, present);
  const RowsInput& z = call.logits;
  const ScoresGradients gradients{checked_gradient(device, "grad_loss", grad_loss, z),
                                  checked_gradient(device, "grad_confidence", grad_confidence, z),
                                  checked_gradient(device, "grad_entropy", grad_entropy, z),
                                  checked_gradient(device, "grad_margin", grad_margin, z)};
  const ScoresInputs inputs = scores_inputs(kOp, call);
  Tensor gradient = device.empty({z.modalities, z.utterances, z.columns}, logits.front().scalar_type());
  modality_scores_backward_cuda(inputs, gradients, gradient.mutable_data_ptr(), device.stream());
  device.check_launches();
  return gradient;
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("modality_scores_backward", TORCH_BOX(&spcl::modality_scores_backward_on_device));
}
