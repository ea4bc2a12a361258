#pragma once

#include "cuda/modality_scores.h"
#include "torch/cuda/device_call.h"
#include "torch/scores_call.h"

namespace spcl {

/// The rows of a call whose tensors were checked, as the kernels take them.
inline ScoresInputs scores_inputs(const char* op, const ScoresCall& call) {
  const IntegersInput labels{call.labels.data, call.labels.type, call.labels.stride, call.label_extent};
  return {sources_of(op, "logits", call.logits), labels_of(labels, call.labels.ignore_index, call.labels.num_classes),
          present_of(call.present)};
}

inline void require_device(const DeviceCall& device, const std::vector<Tensor>& logits, const Tensor& labels,
                           const std::optional<Tensor>& present) {
  device.require("logits", logits);
  device.require("labels", labels);
  device.require("present", present);
}

}  // namespace spcl
