#pragma once

#include "cuda/dialogue_offsets.h"

namespace spcl {

/// Confidences [M, T] and where their spreads go: double for float64 confidences and float for all others.
struct SpreadCall {
  Sources::Source confidence;  // row_stride: from modality to modality; class_stride: from utterance to utterance
  FloatType type;
  int64_t modalities;
  DialogueOffsets offsets;
  Present present;
  bool of_means;
  void* spread;  // [D]
};

/// Shared memory holds some numbers for each.
inline constexpr int64_t kMostSpreadModalities = 160;

/// Bytes of workspace of a call.
int64_t modality_spread_bytes(const SpreadCall& call);

/// One launch, and one before it where the offsets are many.
void modality_spread_cuda(const SpreadCall& call, void* workspace, cudaStream_t stream);

}  // namespace spcl
