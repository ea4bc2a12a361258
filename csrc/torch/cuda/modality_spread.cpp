#include "cuda/modality_spread.h"

#include <torch/csrc/stable/library.h>

#include "torch/cuda/device_call.h"

namespace spcl {
namespace {

constexpr const char* kOp = "modality_spread";

Tensor modality_spread_on_device(const Tensor& confidence, const Tensor& offsets, const std::optional<Tensor>& present,
                                 bool of_means) {
  const DeviceCall call(kOp, confidence);
  call.require("offsets", offsets);
  call.require("present", present);
  SPCL_CHECK(confidence.dim() == 2, kOp, "confidence must be [M, T]", shape_text(confidence));
  const int64_t modalities = confidence.size(0), utterances = confidence.size(1);
  SPCL_CHECK(modalities >= 2, kOp, "the spread between modalities needs at least 2 of them", modalities);
  SPCL_CHECK(modalities <= kMostSpreadModalities, kOp,
             "a GPU takes at most " + std::to_string(kMostSpreadModalities) + " modalities", modalities);
  const FloatRows values = checked_floats(kOp, "confidence", confidence, {modalities, utterances});
  const Integers bounds = offsets_of(kOp, offsets);
  const int64_t dialogues = offsets.size(0) - 1;

  SpreadCall batch{};
  batch.confidence = {values.data, values.row_stride, values.class_stride};
  batch.type = values.type;
  batch.modalities = modalities;
  batch.offsets = dialogue_offsets(bounds, dialogues, utterances);
  batch.present = present_of(checked_present(kOp, present, modalities, utterances));
  batch.of_means = of_means;
  Tensor spread = call.empty({dialogues}, result_type(values.type));
  batch.spread = spread.mutable_data_ptr();
  const Tensor workspace = call.workspace(modality_spread_bytes(batch));
  modality_spread_cuda(batch, workspace.mutable_data_ptr(), call.stream());
  call.check_launches();
  return spread;
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("modality_spread", TORCH_BOX(&spcl::modality_spread_on_device));
}
