#pragma once

#include <cstdint>

#include "cpu/dtypes.h"

namespace spcl {

/// Confidences of a batch of whole dialogues. Strides are in bytes.
struct SpreadBatch {
  const char* confidence;  // [modalities, utterances]
  FloatType type;
  int64_t modality_stride, stride;
  int64_t modalities;

  const char* present;  // [modalities, utterances] bytes; nullptr: every modality is present
  int64_t present_modality_stride, present_stride;

  bool of_means;
  void* spread;  // [dialogues]: double for float64 confidences, float for the others
};

/// Utterances a dialogue is summed in: their sums are added in order, however long it is.
inline constexpr int64_t kSpreadRows = 4096;

/// The spread of one dialogue, the rows [begin, end). `work` holds modalities + 1 rows of `kSpreadRows` numbers,
/// `sums` and `known` one for each modality.
void modality_spread(const SpreadBatch& batch, int64_t dialogue, int64_t begin, int64_t end, void* work, double* sums,
                     int64_t* known);

}  // namespace spcl
