#pragma once

#include "cuda/dialogue_offsets.h"

namespace spcl {

/// Integers [C, C]; strides in bytes.
struct IntegerMatrix {
  Integers row;  // the first one
  int64_t row_stride;

  __device__ __forceinline__ int64_t at(int64_t i, int64_t j) const {
    return on_device::load_whole(row.type, row.data + i * row_stride + j * row.stride);
  }
};

/// A call of the op; the results are contiguous.
struct TransitionsCall {
  Integers labels, speakers;
  DialogueOffsets offsets;
  int32_t num_classes;  // at most 2^15, so that a class has 15 bits and a transition 30
  int64_t ignore_index;
  bool breaks;           // an utterance that is not scored cuts the chains it stands in
  bool by_speaker;       // transitions are those of each speaker
  bool weighs_both;      // the difficulty's changes include those between speakers
  FloatRows similarity;  // no data: changes are counted
  bool has_fitted;
  IntegerMatrix fitted;

  unsigned long long* counts;                                           // [C, C], 0 at first
  long long *same_speaker_shifts, *cross_speaker_shifts, *speakers_of;  // [dialogues]
  bool is_wide;                                                         // the next two are double, else float
  void* difficulty;                                                     // [dialogues]
  void* surprisal;                                                      // [rows]

  double* from_class;  // memory for [C]: the transitions from each class
  void* table;         // memory for a surprisal [C, C] of each transition, for at most kClassesInTable
};

inline constexpr int kClassesInTable = 64;

/// Up to four launches. `offsets_memory` is what the offsets need.
void emotion_transitions_cuda(const TransitionsCall& call, void* offsets_memory, cudaStream_t stream);

}  // namespace spcl
