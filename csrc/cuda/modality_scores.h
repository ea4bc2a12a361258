#pragma once

#include "cuda/inputs.h"

namespace spcl {

/// The rows of a call of modality_scores, or of its gradient.
struct ScoresInputs {
  Sources logits;
  Labels labels;
  Present present;
};

/// Where a score [M, T] goes: double for float64 logits, float for the others. The stride in bytes; rows are
/// contiguous.
struct ScoreOutput {
  char* data;
  int64_t modality_stride;
};
struct ScoresOutputs {
  ScoreOutput loss, confidence, entropy, margin;
};

/// The gradient that arrives at a score [M, T], of the score's type. No data: none arrives. Strides in bytes.
struct ScoreGradient {
  const char* data;
  int64_t modality_stride, row_stride;
};
struct ScoresGradients {
  ScoreGradient loss, confidence, entropy, margin;
};

/// The four scores of every row of every modality. One launch.
void modality_scores_cuda(const ScoresInputs& inputs, const ScoresOutputs& outputs, cudaStream_t stream);

/// The gradient [M, T, C], contiguous, of the type of the logits: zeros for rows that are not scored. One launch.
void modality_scores_backward_cuda(const ScoresInputs& inputs, const ScoresGradients& gradients, void* gradient,
                                   cudaStream_t stream);

}  // namespace spcl
