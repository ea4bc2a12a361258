#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/labels.h"

namespace spcl {

/// The rows of one modality. Strides are in bytes, of any sign, and zero is allowed.
struct ModalityScoresRows {
  FloatRows logits;     // [rows, num_classes]
  const char* present;  // [rows] bytes, zero for an absent row; nullptr: every row is present
  int64_t present_stride;

  // Contiguous [rows]: double for float64 logits, float for the others.
  void *loss, *confidence, *entropy, *margin;
};

/// Rows of work a thread takes at a time, of every modality. A row's result does not depend on it.
inline constexpr int64_t kModalityScoresChunk = 2048;

/// Scores the rows [begin, end), at most a chunk of them, of all modalities: `labels` belong to each, and name a class
/// of at least one. Reads nothing outside the arrays, whatever the labels are.
void modality_scores(const ModalityScoresRows* rows, int64_t modalities, const LabelRows& labels, int64_t begin,
                     int64_t end);

}  // namespace spcl
