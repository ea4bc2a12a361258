#include "cpu/modality_spread.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "modality_spread";
// Dialogues a thread takes at a time, and the utterances below which it takes them all.
constexpr int64_t kDialogues = 64;
constexpr int64_t kSerialRows = 4096;

}  // namespace

Tensor modality_spread_cpu(const Tensor& confidence, const Tensor& offsets, const std::optional<Tensor>& present,
                           bool of_means) {
  isa();  // throws here, not on a worker thread
  SPCL_CHECK(confidence.dim() == 2, kOp, "confidence must be [M, T]", shape_text(confidence));
  const int64_t modalities = confidence.size(0), utterances = confidence.size(1);
  SPCL_CHECK(modalities >= 2 && modalities < 1 << 16, kOp,
             "the spread between modalities needs at least 2 of them, and fewer than 65536", modalities);
  const FloatRows values = checked_floats(kOp, "confidence", confidence, {modalities, utterances});
  const PresentInput has = checked_present(kOp, present, modalities, utterances);
  const std::vector<int64_t> bounds = checked_offsets(kOp, offsets, utterances);
  const ScalarType result = result_type(values.type);
  const auto dialogues = static_cast<int64_t>(bounds.size()) - 1;
  Tensor spread = new_tensor({dialogues}, result);

  SpreadBatch batch{};
  batch.confidence = values.data;
  batch.type = values.type;
  batch.modality_stride = values.row_stride;
  batch.stride = values.class_stride;
  batch.modalities = modalities;
  batch.present = has.data;
  batch.present_modality_stride = has.modality_stride;
  batch.present_stride = has.stride;
  batch.of_means = of_means;
  batch.spread = spread.mutable_data_ptr();

  const int64_t groups = (dialogues + kDialogues - 1) / kDialogues;
  const auto body = [&](int64_t begin, int64_t end) {
    std::vector<double> work(static_cast<size_t>((modalities + 1) * kSpreadRows));
    std::vector<double> sums(static_cast<size_t>(modalities));
    std::vector<int64_t> known(static_cast<size_t>(modalities));
    for (int64_t d = begin * kDialogues; d < std::min(end * kDialogues, dialogues); ++d) {
      const auto k = static_cast<size_t>(d);
      modality_spread(batch, d, bounds[k], bounds[k + 1], work.data(), sums.data(), known.data());
    }
  };
  if (utterances <= kSerialRows) {
    body(0, groups);
  } else {
    torch::stable::parallel_for(0, groups, 1, body);
  }
  return spread;
}

}  // namespace spcl
