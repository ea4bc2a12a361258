#pragma once

#include <cstdint>
#include <vector>

#include "cpu/dtypes.h"
#include "cpu/labels.h"
#include "cpu/window_coherence.h"
#include "math/measure.h"

// What `modality_scores`, `window_coherence` of predictions and `self_paced_step` say of the same rows, bit for bit,
// from one reading of the logits and one exponential a number, where they take three. For the few classes of emotions.

namespace spcl {

/// Whole dialogues and where their scores go; all arrays are contiguous float32.
struct RescoreBatch {
  const FloatRows* logits;  // [modalities], of one type, not float64
  int64_t modalities, utterances;
  LabelRows labels;        // [utterances]
  const int64_t* offsets;  // [dialogues + 1]
  Measure measure;
  bool of_means;          // the spread is between means, not sums
  bool wants_modalities;  // `loss` and `confidence` are written
  bool wants_coherence;   // `coherence` is, with the windows of `windows`
  const CoherenceBatch* windows;

  float *loss, *confidence;                                        // [modalities, utterances]
  float *spread_of_row, *coherence, *utterance_loss, *difficulty;  // [utterances]
  float* spread;                                                   // [dialogues]
};

/// Memory for a group of dialogues: what the second pass over it needs of the first.
struct RescoreWork {
  std::vector<int32_t> labels;    // [rows]
  std::vector<float> confidence;  // [modalities, rows], NaN for a row that is not scored
  std::vector<double> agreement;  // [rows], the coherence before the windows
  void* windows;                  // `coherence_work_bytes` of it, where the coherence is wanted

  std::vector<double> confidence_sum;  // [modalities], over all groups so far
  int64_t nonfinite = 0, bad_label = 0;
};

/// Whether the batch is one of those this is for.
bool is_rescored_at_once(const RescoreBatch& batch);

/// Scores and coherence of the dialogues [first, last).
void rescore_dialogues(const RescoreBatch& batch, int64_t first, int64_t last, RescoreWork& work);

/// Their spreads and difficulties; `extra` has a number for each of their rows, or is nullptr.
void rate_dialogues(const RescoreBatch& batch, int64_t first, int64_t last, const float* extra, RescoreWork& work);

}  // namespace spcl
