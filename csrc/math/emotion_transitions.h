// The formulas of `emotion_transitions`; every kernel, on every device, goes through them.
//
// Included once per instruction set (cpu/every_isa.h), hence no include guard and a namespace for each.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

/// What a change between two classes of this similarity counts in WES, where it counts 1 in DIF.
SPCL_HD double weight_of_change(double similarity) { return similarity + 0.4; }

/// DIF, or WES when `changes` is a sum of weights; NaN for a dialogue without a scored utterance.
SPCL_HD double difficulty_of_dialogue(double changes, int64_t speakers, int64_t utterances) {
  if (utterances == 0) return __builtin_nan("");
  const double n = static_cast<double>(speakers);
  return (changes + n) / (static_cast<double>(utterances) + n);
}

/// -log((n_ij + 1) / (n_i. + C)) as the logarithm of the inverse, so that a certain transition gives +0.
SPCL_HD double surprisal_of_transition(int64_t count, double from_class, int64_t num_classes) {
  return __builtin_log((from_class + static_cast<double>(num_classes)) / (static_cast<double>(count) + 1));
}

}  // namespace SPCL_ISA
}  // namespace spcl
