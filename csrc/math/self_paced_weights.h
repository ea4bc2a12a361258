// Difficulty and weight of one utterance; every kernel, on every device, goes through it.
//
// `Real` is a number or a GCC vector of lanes, as in math/modality_scores.h. Included once per instruction set
// (cpu/every_isa.h), hence no include guard and a namespace for each.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

/// 2 s l / (s + l), 0 when either is 0, +Inf when the loss l is; NaN when either is.
///
/// Written with the ratio of the smaller to the larger so that nothing overflows and min <= rho <= 2 min to the last
/// bit.
template <class Real>
SPCL_HD Real harmonic_mean(Real spread, Real loss) {
  const Real low = spread < loss ? spread : loss;
  const Real high = spread < loss ? loss : spread;
  const Real mean = high == 0 ? low * 0 : low * (2 / (1 + low / high));
  return 2 * loss == loss && loss > 0 ? spread + loss : mean;  // twice itself and above 0: +Inf
}

/// 1[rho <= lambda]: the threshold itself is taken, with every tie.
template <class Real>
SPCL_HD Real hard_weight(Real difficulty, Real threshold) {
  return difficulty <= threshold ? Real{} + 1 : Real{};
}

/// max(0, 1 - rho / lambda), at most 1; 0 for lambda <= 0.
template <class Real>
SPCL_HD Real linear_weight(Real difficulty, Real threshold) {
  const Real weight = 1 - difficulty / threshold;
  const Real capped = weight < 1 ? weight : Real{} + 1;
  return weight > 0 && threshold > 0 ? capped : Real{};
}

/// (1 + e^-lambda) / (1 + e^(rho - lambda)), at most 1; 0 for lambda <= 0. exp is the caller's, for x <= 0.
template <class Real, class Exp>
SPCL_HD Real logistic_weight(Real difficulty, Real threshold, Exp exp) {
  const Real distance = difficulty - threshold;
  const Real small = exp(distance > 0 ? -distance : distance);
  const Real sigmoid = (distance > 0 ? small : Real{} + 1) / (1 + small);
  const Real weight = (1 + exp(threshold > 0 ? -threshold : threshold)) * sigmoid;
  const Real capped = weight < 1 ? weight : Real{} + 1;
  return weight > 0 && threshold > 0 ? capped : Real{};
}

}  // namespace SPCL_ISA
}  // namespace spcl
