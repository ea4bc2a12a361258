#pragma once

#include "cuda/dialogue_offsets.h"
#include "math/measure.h"

namespace spcl {

/// A batch of `self_paced_step` and where its results go, all contiguous. The results are double for float64 logits
/// and float for all others.
struct StepCall {
  Sources logits;
  Sources::Source joint;  // no data: the sum of the logits
  FloatType joint_type;
  Labels labels;
  DialogueOffsets offsets;
  Present present;
  Numbers extra_difficulty;
  Numbers class_weight;
  double label_smoothing;
  Measure measure;
  bool selects_all;  // no threshold: every scored utterance has weight 1
  DeviceWeighting weighting;
  bool of_means;
  bool divides_by_weight;
  bool flags;

  void* loss;
  void *weight, *difficulty, *utterance_loss;  // [T]
  void* confidence;                            // [M, T]
  void* spread;                                // [D]
  void* gradient;                              // [T, C], weight times that of the utterance loss; nullptr: not wanted
  int64_t* counts;                             // [7]
  double* sums;                                // [2 + 2 M]
};

/// Shared memory holds some numbers for each.
inline constexpr int64_t kMostStepModalities = 96;

/// Bytes of workspace of a call.
int64_t self_paced_step_bytes(const StepCall& call);

/// Two launches, and one before them where the offsets are many.
void self_paced_step_cuda(const StepCall& call, void* workspace, cudaStream_t stream);

}  // namespace spcl
