#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/modality_scores.h"
#include "torch/inputs.h"

namespace spcl {

/// A call of modality_scores, or of its gradient, whose every tensor was checked: nothing in it can lead outside one.
struct ScoresCall {
  RowsInput logits;
  LabelRows labels;
  Extent label_extent;
  PresentInput present;

  /// The inputs of modality m.
  ModalityScoresRows rows(int64_t m) const {
    ModalityScoresRows rows{};
    rows.logits = logits.modality(m);
    if (present.data != nullptr) {
      rows.present = present.data + m * present.modality_stride;
      rows.present_stride = present.stride;
    }
    return rows;
  }
};

inline ScoresCall checked_scores_call(const char* op, const std::vector<Tensor>& logits, const Tensor& labels,
                                      const std::optional<Tensor>& present, int64_t ignore_index) {
  RowsInput z = checked_logits(op, logits);
  const IntegersInput y = checked_integers(op, "labels", labels, z.utterances);
  const PresentInput has = checked_present(op, present, z.modalities, z.utterances);
  const LabelRows rows = y.rows(ignore_index, z.columns);
  return {std::move(z), rows, y.extent, has};
}

}  // namespace spcl
