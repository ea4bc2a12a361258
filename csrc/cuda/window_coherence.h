#pragma once

#include "cuda/dialogue_offsets.h"
#include "cuda/inputs.h"

namespace spcl {

/// The vectors of a batch: embeddings, or the softmax of logits; 2 to 256 modalities.
struct CoherenceRows {
  Sources sources;
  Present present;
  bool of_predictions;

  static constexpr int64_t max_modalities = 256;
};

/// The c of every utterance, double [T], or one of the two of math/window_coherence.h that do not count. One launch.
void coherence_cuda(const CoherenceRows& rows, double* c, cudaStream_t stream);

/// The gradient in the rows: contiguous, [M, T, F], of their type; `of_c` is that in each c. One launch.
void coherence_backward_cuda(const CoherenceRows& rows, const double* of_c, void* gradient, cudaStream_t stream);

/// Utterances on either side of the middle up to which a window is added up one by one.
inline constexpr int64_t kShortHalf = 32;

/// Bytes that windows of `half` utterances on either side need; 0 for short ones.
int64_t window_bytes(int64_t rows, int64_t half);

/// The mean of the defined c over each window, float or double, and unless `counts` is nullptr how many there are.
/// One launch, for long windows one more for each power of 16 that fits.
void window_means_cuda(const DialogueOffsets& dialogues, int64_t half, const double* c, FloatType type, void* coherence,
                       int64_t* counts, void* memory, cudaStream_t stream);

/// The gradient in each c from that in the means, and from their counts.
void window_means_backward_cuda(const DialogueOffsets& dialogues, int64_t half, const Numbers& of_coherence,
                                const int64_t* counts, double* of_c, void* memory, cudaStream_t stream);

}  // namespace spcl
