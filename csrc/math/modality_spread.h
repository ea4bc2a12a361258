// The spread between the modalities of one dialogue; every kernel, on every device, goes through it.
//
// Included once per instruction set (cpu/every_isa.h), hence no include guard and a namespace for each.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

/// Standard deviation over the modalities of S^m, divided by k - 1; `sums` [modalities] is worked in.
///
/// `sums[m]` and `counts[m]` are the sum and the number of the confidences that modality m has; `scored` is the
/// number of scored utterances of the dialogue. A modality missing now and then is credited with its mean
/// where it is missing. NaN with fewer than two modalities.
SPCL_HD double spread_of_dialogue(double* sums, const int64_t* counts, int64_t modalities, int64_t scored,
                                  bool of_means) {
  double smallest = __builtin_inf();
  int64_t having = 0;
  for (int64_t m = 0; m < modalities; ++m) {
    if (counts[m] == 0) continue;
    const double n = static_cast<double>(counts[m]);
    if (of_means) {
      sums[m] = sums[m] / n;
    } else if (counts[m] != scored) {
      sums[m] = rounded_product(static_cast<double>(scored), sums[m] / n);
    }
    smallest = sums[m] < smallest ? sums[m] : smallest;
    ++having;
  }
  if (having < 2) return __builtin_nan("");
  // The deviation does not change when the smallest is subtracted, and equal ones give exactly 0.
  double total = 0;
  for (int64_t m = 0; m < modalities; ++m) total += counts[m] == 0 ? 0.0 : sums[m] - smallest;
  const double mean = total / static_cast<double>(having);
  double squares = 0;
  for (int64_t m = 0; m < modalities; ++m) {
    const double distance = counts[m] == 0 ? 0.0 : sums[m] - smallest - mean;
    squares += distance * distance;
  }
  return __builtin_sqrt(squares / static_cast<double>(having - 1));
}

}  // namespace SPCL_ISA
}  // namespace spcl
