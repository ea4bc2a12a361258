#include "cuda/window_coherence.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "torch/cuda/device_call.h"

namespace spcl {
namespace {

constexpr const char* kOp = "window_coherence";

/// A call whose every tensor was checked: nothing in it can lead outside one.
class CoherenceCall {
 public:
  CoherenceCall(const std::vector<Tensor>& embeddings, const Tensor& offsets, const std::optional<Tensor>& present,
                int64_t window, bool of_predictions)
      : input(checked_rows(kOp, "embeddings", of_predictions ? 'C' : 'F', embeddings)),
        device(kOp, embeddings.front()),
        has_(checked_present(kOp, present, input.modalities, input.utterances)) {
    device.require("embeddings", embeddings);
    device.require("offsets", offsets);
    device.require("present", present);
    SPCL_CHECK(input.modalities >= 2 && input.modalities <= CoherenceRows::max_modalities, kOp,
               "the coherence between modalities needs at least 2 of them, and at most 256", input.modalities);
    SPCL_CHECK(input.columns > 0, kOp, "embeddings must have at least one feature", shape_text(embeddings.front()));
    SPCL_CHECK(window >= 1 && window % 2 == 1, kOp, "window must be odd and at least 1", window);
    rows = {sources_of(kOp, "embeddings", input), present_of(has_), of_predictions};
    half = std::min(window / 2, input.utterances);
    const Integers bounds = offsets_of(kOp, offsets);
    offsets_ = dialogue_offsets(bounds, offsets.size(0) - 1, input.utterances);
  }
  CoherenceCall(const CoherenceCall&) = delete;
  CoherenceCall& operator=(const CoherenceCall&) = delete;

  const Extent& present_extent() const { return has_.extent; }

  /// Memory for the windows and for a number of each utterance.
  class Memory {
   public:
    explicit Memory(const CoherenceCall& call)
        : offsets(call.offsets_),
          numbers_bytes_((call.input.utterances + 1) / 2 * 16),
          tensor_(call.device.workspace(numbers_bytes_ + window_bytes(call.input.utterances, call.half) +
                                        dialogue_offsets_bytes(call.offsets_))) {
      char* const begin = static_cast<char*>(tensor_.mutable_data_ptr());
      numbers = reinterpret_cast<double*>(begin);
      windows = begin + numbers_bytes_;
      prepare_offsets_cuda(offsets, begin + numbers_bytes_ + window_bytes(call.input.utterances, call.half),
                           call.device.stream());
    }

    double* numbers;  // [utterances]
    void* windows;
    DialogueOffsets offsets;

   private:
    const int64_t numbers_bytes_;
    Tensor tensor_;
  };

  const RowsInput input;
  const DeviceCall device;
  CoherenceRows rows;
  int64_t half;

 private:
  const PresentInput has_;
  DialogueOffsets offsets_;
};

void forward(const CoherenceCall& call, void* coherence, int64_t* counts) {
  if (call.input.utterances == 0) return;
  const CoherenceCall::Memory memory(call);
  coherence_cuda(call.rows, memory.numbers, call.device.stream());
  window_means_cuda(memory.offsets, call.half, memory.numbers, call.input.type, coherence, counts, memory.windows,
                    call.device.stream());
  call.device.check_launches();
}

std::tuple<Tensor, Tensor> window_coherence_on_device(const std::vector<Tensor>& embeddings, const Tensor& offsets,
                                                      const std::optional<Tensor>& present, int64_t window,
                                                      bool of_predictions, bool needs_counts) {
  const CoherenceCall call(embeddings, offsets, present, window, of_predictions);
  Tensor coherence = call.device.empty({call.input.utterances}, call.input.result);
  Tensor counts = call.device.empty({needs_counts ? call.input.utterances : 0}, ScalarType::Long);
  forward(call, coherence.mutable_data_ptr(),
          needs_counts ? static_cast<int64_t*>(counts.mutable_data_ptr()) : nullptr);
  return {coherence, counts};
}

void window_coherence_out_on_device(const std::vector<Tensor>& embeddings, const Tensor& offsets,
                                    const std::optional<Tensor>& present, int64_t window, bool of_predictions,
                                    const Tensor& out) {
  const CoherenceCall call(embeddings, offsets, present, window, of_predictions);
  call.device.require("out", out);
  SPCL_CHECK(out.scalar_type() == call.input.result, kOp, "out must have the dtype of the coherence",
             toString(out.scalar_type()));
  SPCL_CHECK(out.dim() == 1 && out.size(0) == call.input.utterances, kOp, "out must be [T]", shape_text(out));
  SPCL_CHECK(out.size(0) <= 1 || out.stride(0) == 1, kOp, "out must be contiguous",
             "stride " + std::to_string(out.stride(0)));
  const Extent extent = checked_extent(kOp, "out", out);
  std::vector<Extent> inputs = call.input.extents;
  inputs.push_back(call.present_extent());
  inputs.push_back(checked_extent(kOp, "offsets", offsets));
  for (const Extent& input : inputs) {
    SPCL_CHECK(!extent.overlaps(input), kOp, "out must not overlap an input", shape_text(out));
  }
  forward(call, out.mutable_data_ptr(), nullptr);
}

Tensor window_coherence_backward_on_device(const Tensor& grad, const Tensor& counts,
                                           const std::vector<Tensor>& embeddings, const Tensor& offsets,
                                           const std::optional<Tensor>& present, int64_t window, bool of_predictions) {
  const CoherenceCall call(embeddings, offsets, present, window, of_predictions);
  call.device.require("grad", grad);
  call.device.require("counts", counts);
  const int64_t utterances = call.input.utterances;
  SPCL_CHECK(counts.scalar_type() == ScalarType::Long && counts.dim() == 1 && counts.size(0) == utterances &&
                 (utterances <= 1 || counts.stride(0) == 1),
             kOp, "counts must be those of the forward pass", shape_text(counts));
  const auto* const of_windows = reinterpret_cast<const int64_t*>(checked_extent(kOp, "counts", counts).begin);
  const Numbers of_coherence = numbers_of(kOp, "grad", grad, utterances);
  Tensor gradient =
      call.device.empty({call.input.modalities, utterances, call.input.columns}, embeddings.front().scalar_type());
  if (utterances == 0) return gradient;
  const CoherenceCall::Memory memory(call);
  window_means_backward_cuda(memory.offsets, call.half, of_coherence, of_windows, memory.numbers, memory.windows,
                             call.device.stream());
  coherence_backward_cuda(call.rows, memory.numbers, gradient.mutable_data_ptr(), call.device.stream());
  call.device.check_launches();
  return gradient;
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("window_coherence", TORCH_BOX(&spcl::window_coherence_on_device));
  m.impl("window_coherence_out", TORCH_BOX(&spcl::window_coherence_out_on_device));
  m.impl("window_coherence_backward", TORCH_BOX(&spcl::window_coherence_backward_on_device));
}
