// The numbers of the multi-view hardness, and how its two parts become one; every kernel goes through it.
//
// Included once per instruction set (cpu/every_isa.h), hence no include guard and a namespace for each.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

/// Of the entropy proxy: the smallest probability, and what is added to one under the logarithm.
inline constexpr double kSmallestProbability = 1e-6, kAddedProbability = 1e-7;

/// With p' = e' / Z the clamped probabilities, e' = exp(x') relative to the largest x of the row,
///   H = -sum p' log(p' + eps) = (log(Z) sum e' - sum e' x') / Z - eps sum log1p(u) / u,  u = eps / p' <= 0.1.
SPCL_HD double entropy_of_sums(double log_total, double total, double sum, double moment, double tail) {
  return (rounded_product(log_total, sum) - moment) / total - rounded_product(kAddedProbability, tail);
}

/// log1p(u) / u for 0 <= u <= 0.1, to 3e-5: it is multiplied by 1e-7 beside an entropy in float32.
template <class Vector, class MultiplyAdd>
SPCL_HD Vector tail_factor(Vector u, const MultiplyAdd& multiply_add) {
  return multiply_add(u, multiply_add(u, multiply_add(u, Vector{} - 0.25f, Vector{} + 0x1.555556p-2f), Vector{} - 0.5f),
                      Vector{} + 1.0f);
}

/// Where the parts of the hardness are scaled from, and what it is made of them with.
struct HardnessRule {
  double low[2], extent[2];  // of the direct hardness and of the information; no extent: what is scaled is 0
  double slope, weight[2];

  /// `scaling` is smallest and largest direct hardness, smallest and largest information.
  SPCL_HD static HardnessRule of(const double* scaling, double slope, double direct_weight, double information_weight) {
    HardnessRule rule{{scaling[0], scaling[2]}, {}, slope, {direct_weight, information_weight}};
    for (int part = 0; part < 2; ++part) {
      const double extent = scaling[2 * part + 1] - scaling[2 * part];
      rule.extent[part] = extent > 0 && extent < __builtin_inf() ? extent : 0;
    }
    return rule;
  }
};

/// x scaled; NaN stays NaN.
template <class Vector>
SPCL_HD Vector scaled_part(Vector x, const HardnessRule& rule, int part) {
  return rule.extent[part] > 0 ? (x - rule.low[part]) / rule.extent[part] : x - x;
}

/// The hardness of what has these two parts. `exp` is for arguments of at most 0.
template <class Vector, class Product, class Exp>
SPCL_HD Vector hardness_of_parts(Vector direct, Vector information, const HardnessRule& rule, const Product& product,
                                 const Exp& exp) {
  const Vector d = product(rule.weight[0], scaled_part(direct, rule, 0));
  const Vector g = product(rule.weight[1], scaled_part(information, rule, 1));
  const Vector z = rule.slope * (d + g);
  const Vector a = exp(z > 0 ? -z : z);
  return (z >= 0 ? Vector{} + 1 : a) / (1 + a);
}

}  // namespace SPCL_ISA
}  // namespace spcl
