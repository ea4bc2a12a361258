#include "cpu/window_coherence.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <string>

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "window_coherence";

/// A call whose every tensor was checked: nothing in it can lead outside one.
class Call {
 public:
  Call(const std::vector<Tensor>& embeddings, const Tensor& offsets, const std::optional<Tensor>& present,
       int64_t window, bool of_predictions)
      : input(checked_rows(kOp, "embeddings", of_predictions ? 'C' : 'F', embeddings)),
        has_(checked_present(kOp, present, input.modalities, input.utterances)),
        bounds_(checked_offsets(kOp, offsets, input.utterances)) {
    SPCL_CHECK(input.modalities >= 2 && input.modalities <= CoherenceBatch::max_modalities, kOp,
               "the coherence between modalities needs at least 2 of them, and at most 256", input.modalities);
    SPCL_CHECK(input.columns > 0, kOp, "embeddings must have at least one feature", shape_text(embeddings.front()));
    SPCL_CHECK(window >= 1 && window % 2 == 1, kOp, "window must be odd and at least 1", window);
    for (int64_t m = 0; m < input.modalities; ++m) rows_.push_back(input.modality(m));
    batch.rows = rows_.data();
    batch.modalities = input.modalities;
    batch.columns = input.columns;
    batch.of_predictions = of_predictions;
    batch.present = has_.data;
    batch.present_modality_stride = has_.modality_stride;
    batch.present_stride = has_.stride;
    batch.offsets = bounds_.data();
    batch.dialogues = static_cast<int64_t>(bounds_.size()) - 1;
    batch.half = coherence_half(window, bounds_);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  const Extent& present_extent() const { return has_.extent; }

  /// Shares the utterances out over torch's threads; `work(begin, end, memory)` does a range of them.
  template <class Work>
  void run(const Work& work) const {
    const int64_t chunk = coherence_rows(batch), utterances = input.utterances;
    torch::stable::parallel_for(0, (utterances + chunk - 1) / chunk, 1, [&](int64_t begin, int64_t end) {
      const CoherenceWork memory(batch);
      work(begin * chunk, std::min(end * chunk, utterances), memory.get());
    });
  }

  const RowsInput input;
  CoherenceBatch batch{};

 private:
  const PresentInput has_;
  const std::vector<int64_t> bounds_;
  std::vector<FloatRows> rows_;
};

void forward(const Call& call, void* coherence, int64_t* counts) {
  call.run([&](int64_t begin, int64_t end, void* memory) {
    window_coherence(call.batch, begin, end, memory, coherence, counts);
  });
}

}  // namespace

std::tuple<Tensor, Tensor> window_coherence_cpu(const std::vector<Tensor>& embeddings, const Tensor& offsets,
                                                const std::optional<Tensor>& present, int64_t window,
                                                bool of_predictions, bool needs_counts) {
  isa();  // throws here, not on a worker thread
  const Call call(embeddings, offsets, present, window, of_predictions);
  Tensor coherence = new_tensor({call.input.utterances}, call.input.result);
  Tensor counts = new_tensor({needs_counts ? call.input.utterances : 0}, ScalarType::Long);
  forward(call, coherence.mutable_data_ptr(),
          needs_counts ? static_cast<int64_t*>(counts.mutable_data_ptr()) : nullptr);
  return {coherence, counts};
}

void window_coherence_out_cpu(const std::vector<Tensor>& embeddings, const Tensor& offsets,
                              const std::optional<Tensor>& present, int64_t window, bool of_predictions,
                              const Tensor& out) {
  isa();
  const Call call(embeddings, offsets, present, window, of_predictions);
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

Tensor window_coherence_backward_cpu(const Tensor& grad, const Tensor& counts, const std::vector<Tensor>& embeddings,
                                     const Tensor& offsets, const std::optional<Tensor>& present, int64_t window,
                                     bool of_predictions) {
  isa();
  const Call call(embeddings, offsets, present, window, of_predictions);
  const int64_t utterances = call.input.utterances;
  SPCL_CHECK(counts.scalar_type() == ScalarType::Long && counts.dim() == 1 && counts.size(0) == utterances &&
                 (utterances <= 1 || counts.stride(0) == 1),
             kOp, "counts must be those of the forward pass", shape_text(counts));
  CoherenceGradient gradient{};
  gradient.of_coherence = checked_floats(kOp, "grad", grad, {utterances});
  gradient.counts = reinterpret_cast<const int64_t*>(checked_extent(kOp, "counts", counts).begin);
  gradient.utterances = utterances;
  const std::array<int64_t, 3> shape{call.input.modalities, utterances, call.input.columns};
  Tensor result = torch::stable::empty({shape.data(), shape.size()}, embeddings.front().scalar_type());
  gradient.of_rows = static_cast<char*>(result.mutable_data_ptr());
  call.run([&](int64_t begin, int64_t end, void* memory) {
    window_coherence_backward(call.batch, begin, end, memory, gradient);
  });
  return result;
}

}  // namespace spcl
