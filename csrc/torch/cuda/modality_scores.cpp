#include "cuda/modality_scores.h"

#include <torch/csrc/stable/library.h>

#include "torch/cuda/scores_inputs.h"
#include "torch/scores_outputs.h"

namespace spcl {
namespace {

constexpr const char* kOp = "modality_scores";

Tensor modality_scores_on_device(const std::vector<Tensor>& logits, const Tensor& labels,
                                 const std::optional<Tensor>& present, int64_t ignore_index) {
  const ScoresCall call = checked_scores_call(kOp, logits, labels, present, ignore_index);
  const DeviceCall device(kOp, labels);
  require_device(device, logits, labels, present);
  const ScoresInputs inputs = scores_inputs(kOp, call);
  const int64_t modalities = call.logits.modalities, utterances = call.logits.utterances;
  Tensor slab = device.empty({4, modalities, utterances}, call.logits.result);
  const int64_t row_bytes = utterances * itemsize_of(call.logits.result);
  char* data = static_cast<char*>(slab.mutable_data_ptr());
  const auto output = [&](int64_t k) { return ScoreOutput{data + k * modalities * row_bytes, row_bytes}; };
  modality_scores_cuda(inputs, {output(0), output(1), output(2), output(3)}, device.stream());
  device.check_launches();
  return slab;
}

void modality_scores_out_on_device(const std::vector<Tensor>& logits, const Tensor& labels,
                                   const std::optional<Tensor>& present, int64_t ignore_index, const Tensor& loss,
                                   const Tensor& confidence, const Tensor& entropy, const Tensor& margin) {
  const ScoresCall call = checked_scores_call(kOp, logits, labels, present, ignore_index);
  const ScoresOut out = checked_scores_out(kOp, call, loss, confidence, entropy, margin);
  const DeviceCall device(kOp, labels);
  require_device(device, logits, labels, present);
  device.require("out", std::vector<Tensor>{loss, confidence, entropy, margin});
  const ScoresInputs inputs = scores_inputs(kOp, call);
  const auto output = [&](size_t k) { return ScoreOutput{out.data[k], out.modality_strides[k]}; };
  modality_scores_cuda(inputs, {output(0), output(1), output(2), output(3)}, device.stream());
  device.check_launches();
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("modality_scores", TORCH_BOX(&spcl::modality_scores_on_device));
  m.impl("modality_scores_out", TORCH_BOX(&spcl::modality_scores_out_on_device));
}
