#pragma once

#include <cstdint>

#include "cpu/modality_scores.h"

namespace spcl {

/// The gradient that arrives at one score of every row of a modality.
struct ScoreGradientRows {
  const char* data;  // [rows], double for float64 logits, float for the others; nullptr: none arrives
  int64_t stride;    // in bytes, zero is allowed
};

/// The rows of one modality and where their gradient goes.
struct ModalityScoresBackwardRows {
  ModalityScoresRows inputs;  // its outputs are not looked at
  ScoreGradientRows loss, confidence, entropy, margin;
  void* gradient;  // contiguous [rows, num_classes], of the type of the logits
};

/// Rows of work a thread takes at a time, of every modality: at most about as many numbers whatever the classes. No
/// result depends on it.
inline int64_t modality_scores_backward_chunk(int64_t num_classes) {
  constexpr int64_t numbers = 1 << 14, least = 16, most = kModalityScoresChunk;
  const int64_t rows = numbers / (num_classes > 0 ? num_classes : 1) / least * least;
  return rows < least ? least : rows > most ? most : rows;
}

/// Writes the gradient of the rows [begin, end), at most a chunk of them, of all modalities: zeros for rows that are
/// not scored, whatever arrives there. `labels` belong to each modality, and name a class of at least one.
void modality_scores_backward(const ModalityScoresBackwardRows* rows, int64_t modalities, const LabelRows& labels,
                              int64_t begin, int64_t end);

}  // namespace spcl
