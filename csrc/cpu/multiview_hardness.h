#pragma once

#include <cstdint>

#include "cpu/dtypes.h"

namespace spcl {

/// Modalities a call may have; their pairs, and rows of all kinds.
inline constexpr int64_t kMostHardnessModalities = 8;
inline constexpr int64_t kMostHardnessPairs = kMostHardnessModalities * (kMostHardnessModalities - 1) / 2;

/// A batch of utterances; strides in bytes.
struct HardnessBatch {
  int64_t modalities, utterances, units;
  FloatType type;
  const FloatRows* reconstruction;  // [modalities] of [utterances, widths[m]]
  const FloatRows* target;          // the same; nullptr: all zeros
  const int64_t* widths;
  const FloatRows* hidden;   // [modalities] of [utterances, units]
  const FloatRows* crossed;  // one for each pair of modalities

  const char* present;  // [modalities, utterances] bytes
  int64_t present_modality_stride, present_stride;
  const char* valid;  // [utterances] bytes; nullptr: all are
  int64_t valid_stride;

  double sign;        // of the information
  void* direct;       // [utterances]: double for float64 rows, float for the others
  void* information;  // the same
};

/// Smallest and largest direct hardness, smallest and largest information of what counts.
struct HardnessBounds {
  double ends[4] = {__builtin_inf(), -__builtin_inf(), __builtin_inf(), -__builtin_inf()};

  void widen(const HardnessBounds& other) {
    for (int k = 0; k < 4; ++k) {
      const bool wider = k % 2 == 0 ? other.ends[k] < ends[k] : other.ends[k] > ends[k];
      if (wider) ends[k] = other.ends[k];
    }
  }
};

/// Bytes of working memory for `hardness_parts`.
int64_t hardness_work_bytes(const HardnessBatch& batch);

/// Both parts of the utterances [begin, end), and their bounds. `work` is aligned to 64 bytes.
HardnessBounds hardness_parts(const HardnessBatch& batch, int64_t begin, int64_t end, void* work);

/// The hardness of `count` utterances, contiguous doubles or floats, by a scaling [4].
void hardness_of_parts(FloatType type, const void* direct, const void* information, void* hardness, int64_t count,
                       const double* scaling, double slope, double direct_weight, double information_weight);

}  // namespace spcl
