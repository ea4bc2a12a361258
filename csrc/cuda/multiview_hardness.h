#pragma once

#include "cpu/multiview_hardness.h"
#include "cuda/inputs.h"

namespace spcl {

/// A batch of utterances, their parts, and what makes those one number.
struct HardnessOnDevice {
  using Source = Sources::Source;
  int64_t modalities, utterances, units, rows;
  FloatType type;
  Source reconstruction[kMostHardnessModalities];
  Source target[kMostHardnessModalities];  // no data: all zeros
  int64_t widths[kMostHardnessModalities];
  bool error_pieces[kMostHardnessModalities];                   // both go by 16 bytes
  Source hidden[kMostHardnessModalities + kMostHardnessPairs];  // [rows]: of each modality, then of each pair
  bool hidden_pieces;                                           // all of them do
  Present present, valid;                                       // the second has one row
  double sign;                                                  // of the information
  Numbers scaling;                                              // float64 [4]; no data: to be worked out
  double slope, direct_weight, information_weight;
  void *direct, *information, *hardness;  // [T]: double for float64 rows, float for the others
  double* ends;                           // [4], the scaling that was used
};

/// Bytes of workspace of a call.
int64_t multiview_hardness_bytes(const HardnessOnDevice& call);

/// Two launches: the parts and the bounds of each block; then the bounds of all, and the hardness.
void multiview_hardness_cuda(const HardnessOnDevice& call, void* workspace, cudaStream_t stream);

}  // namespace spcl
