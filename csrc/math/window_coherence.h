// The mathematics of one utterance of `window_coherence`; every kernel, on every device, goes through it.
//
// Included once per instruction set (cpu/every_isa.h), hence no include guard and a namespace for each.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

/// Place of the product of rows i <= j among those of all pairs: (0, 0), (0, 1), ..., (1, 1), ...
SPCL_HD int64_t product_index(int64_t i, int64_t j, int64_t modalities) {
  return i * modalities - i * (i - 1) / 2 + (j - i);
}

/// The cosine of two vectors from their product and their norms, in [-1, 1]. `Real` is a number or a vector of lanes.
template <class Real>
SPCL_HD Real cosine(Real product, Real norm_a, Real norm_b) {
  const Real c = product / (norm_a * norm_b), one = Real{} + 1.0;
  const Real most = c < one ? c : one;
  return most > -one ? most : -one;
}

/// The power of two that brings a largest magnitude near 1, where its square would leave the range of float64.
SPCL_HD double scale_for(double largest) {
  if (largest > 0x1p-400 && largest < 0x1p400) return 1.0;
  const uint64_t bits = __builtin_bit_cast(uint64_t, largest);
  int64_t exponent = 1023 - static_cast<int64_t>(bits >> 52 & 0x7FF);
  exponent = exponent < -1022 ? -1022 : exponent;  // 2^1023 is the largest power, and 2^-1022 the least normal one
  return __builtin_bit_cast(double, static_cast<uint64_t>(exponent + 1023) << 52);
}

/// Whether a squared norm, summed in the kernel's own precision, neither overflowed nor lost digits below.
SPCL_HD bool is_in_range(double squared_norm, bool is_float64) {
  const double least = is_float64 ? 0x1p-900 : 0x1p-90;
  const double most = is_float64 ? 0x1p1000 : 0x1p120;
  return squared_norm > least && squared_norm < most;
}

/// What an utterance is in the sums over windows: a coherence in [-1, 1], or one of two that do not count.
SPCL_HD double undefined_coherence() { return __builtin_nan(""); }  // no pair of vectors
SPCL_HD double faulty_coherence() { return __builtin_inf(); }       // a vector with a NaN or Inf

}  // namespace SPCL_ISA
}  // namespace spcl
