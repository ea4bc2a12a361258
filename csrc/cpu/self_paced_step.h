#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/labels.h"
#include "cpu/self_paced_weights.h"
#include "math/measure.h"

namespace spcl {

/// A batch of whole dialogues and where its results go.
struct StepBatch {
  const FloatRows* logits;  // [modalities], of one type
  int64_t modalities, utterances;
  FloatRows joint;  // optional, of any type

  LabelRows labels;  // [utterances]; its number of classes is that of the logits

  const char* present;  // [modalities, utterances] bytes; nullptr: every modality is present
  int64_t present_modality_stride, present_stride;

  const char* extra_difficulty;  // [utterances]; nullptr: none
  FloatType extra_type;
  int64_t extra_stride;

  const double* class_weight;  // one for each class; nullptr: all are 1
  double class_weight_sum;
  double label_smoothing;

  Measure measure;
  bool selects_all;  // no threshold: every scored utterance has weight 1
  Weighting weighting;
  bool groups_are_dialogues;  // of kSpld; else the groups are the classes
  bool of_means;              // the spread is between means, not sums

  /// Whether the weights hang on ranks over the whole batch, so that every difficulty comes before any weight.
  bool is_ranked() const { return !selects_all && weighting.scheme == Scheme::kSpld; }

  FloatType result;                            // kFloat64 or kFloat32: the type of these contiguous arrays
  void *weight, *difficulty, *utterance_loss;  // [utterances]
  void* confidence;                            // [modalities, utterances]
  void* spread;                                // [dialogues]
  void* gradient;                              // [utterances, classes]; nullptr: not wanted
  double gradient_scale;                       // multiplies the gradient
};

/// What a range of utterances adds up to. Arrays of `modalities` lie behind it, see `StepWork`.
struct StepSums {
  int64_t scored, selected, nonfinite, bad_label, undefined;
  double loss, weighted_loss, weight;
};

/// Memory for one range of at most kStepRows utterances.
struct StepWork {
  StepSums sums;
  double* confidence;           // [modalities], summed over the range
  double* selected_confidence;  // [modalities]
  int64_t* known;               // [modalities], confidences that are not NaN; summed over the dialogue at hand
  double* dialogue_sums;        // [modalities]
  int32_t* labels;              // [rows of the range], -1: no class
  void* classes;                // a vector of 64 bytes for each class, aligned to 64 bytes
  void* selected_lanes;         // modalities sums of 128 bytes, aligned to 64 bytes
};

/// Most utterances in a range. A dialogue that is longer is scored, summed and weighed range by range.
inline constexpr int64_t kStepRows = 4096;

/// How many utterances of the range have a class and a modality: those that are scored unless a logit is at fault.
int64_t step_candidates(const StepBatch& batch, int64_t begin, int64_t end, int32_t* labels);

/// Whole dialogues [first, last), together at most kStepRows utterances, in one pass; short of the weights where they
/// are ranked.
void step_dialogues(const StepBatch& batch, const int64_t* offsets, int64_t first, int64_t last, StepWork& work);

/// The same for a part of a longer dialogue, in three: scores and sums of the rows, the spread, the weights.
void step_score_part(const StepBatch& batch, int64_t begin, int64_t end, StepWork& work);
void step_spread(const StepBatch& batch, int64_t dialogue, double* sums, const int64_t* known, int64_t scored);
void step_weigh_part(const StepBatch& batch, int64_t dialogue, int64_t begin, int64_t end, StepWork& work);

/// The last pass over a range whose weights are ranked, once `batch.weight` holds them: totals and gradient.
void step_count_ranked(const StepBatch& batch, int64_t begin, int64_t end, StepWork& work);

}  // namespace spcl
