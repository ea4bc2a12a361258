#pragma once

#include <cstdint>

#include "cpu/dtypes.h"

namespace spcl {

/// The rows of one modality. Strides are in bytes, of any sign, and zero is allowed.
struct ModalityScoresRows {
  FloatRows logits;     // [rows, num_classes]
  int64_t num_classes;  // in [1, max_classes]

  const char* labels;  // [rows]
  IntegerType labels_type;
  int64_t labels_stride;
  int64_t ignore_index;

  const char* present;  // [rows] bytes, zero for an absent row; nullptr: every row is present
  int64_t present_stride;

  // Contiguous [rows]: double for float64 logits, float for the others.
  void *loss, *confidence, *entropy, *margin;

  static constexpr int64_t max_classes = INT32_MAX;  // a lane counts classes in 32 bits
};

/// Rows of work a thread takes at a time. A row's result does not depend on it.
inline constexpr int64_t kModalityScoresChunk = 2048;

/// Scores the rows [begin, end). Reads nothing outside the arrays, whatever the labels are.
void modality_scores(const ModalityScoresRows& rows, int64_t begin, int64_t end);

}  // namespace spcl
