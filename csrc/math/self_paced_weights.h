// Difficulty and weight of one utterance; every kernel, on every device, goes through it.
//
// `Real` is a number or a GCC vector of lanes, as in math/modality_scores.h. Conditions are nested and never joined:
// GCC 12 takes joined comparisons of vectors apart lane by lane. Included once per instruction set (cpu/every_isa.h),
// hence no include guard and a namespace for each.

#include "math/measure.h"
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
  return 2 * loss == loss ? (loss > 0 ? spread + loss : mean) : mean;  // twice itself and above 0: +Inf
}

/// The difficulty of an utterance from the spread of its dialogue and its loss; NaN when the loss is.
template <class Real>
SPCL_HD Real measured(Measure measure, Real spread, Real loss) {
  switch (measure) {
    case Measure::kSpcl:
      return harmonic_mean(spread, loss);
    case Measure::kLoss:
      return loss;
    case Measure::kSpread:
      return loss == loss ? spread : loss;
    case Measure::kNone:
      return loss == loss ? Real{} : loss;
  }
  __builtin_unreachable();
}

/// 1[rho <= lambda]: the threshold itself is taken, with every tie.
template <class Real>
SPCL_HD Real hard_weight(Real difficulty, Real threshold) {
  return difficulty <= threshold ? Real{} + 1 : Real{};
}

/// max(0, 1 - rho / lambda), at most 1; 0 for lambda <= 0.
template <class Real>
SPCL_HD Real linear_weight(Real difficulty, Real threshold) {
  const Real rho = difficulty < 0 ? Real{} : difficulty;  // -Inf / +Inf would be NaN
  const Real weight = 1 - rho / threshold;
  const Real capped = weight < 1 ? weight : Real{} + 1;
  return weight > 0 ? (threshold > 0 ? capped : Real{}) : Real{};
}

/// (1 + e^-lambda) / (1 + e^(rho - lambda)), at most 1; 0 for lambda <= 0. exp is the caller's, for x <= 0.
template <class Real, class Exp>
SPCL_HD Real logistic_weight(Real difficulty, Real threshold, Exp exp) {
  const Real distance = difficulty - threshold;
  const Real small = exp(distance > 0 ? -distance : distance);
  const Real sigmoid = (distance > 0 ? small : Real{} + 1) / (1 + small);
  const Real weight = (1 + exp(threshold > 0 ? -threshold : threshold)) * sigmoid;
  const Real capped = weight < 1 ? weight : Real{} + 1;
  return weight > 0 ? (threshold > 0 ? capped : Real{}) : Real{};
}

/// log(x), given x - 1 as well, which near 1 says more than x can. log is the caller's, for normal numbers above 0.
template <class Real, class Log>
SPCL_HD Real log_near_one(Real x, Real x_minus_1, Log log) {
  return log(x) + (2 * x > 1 ? (x_minus_1 - (x - 1)) / x : Real{});
}

/// log(rho + z) / log z below lambda, z = 1 - lambda; at most 1, 0 for lambda outside (0, 1).
///
/// `rest` is z, rounded once: near lambda = 1 it says more than 1 - lambda can. `log_rest` is `log_near_one(z,
/// -lambda)`, so that the weight of a difficulty of 0 is 1 to the last bit.
template <class Real, class Log>
SPCL_HD Real log_weight(Real difficulty, Real threshold, Real rest, Real log_rest, Log log) {
  const Real rho = difficulty < 0 ? Real{} : difficulty;
  const Real weight = log_near_one(rest + rho, rho - threshold, log) / log_rest;
  const Real capped = weight < 1 ? weight : Real{} + 1;
  const Real below = difficulty < threshold ? capped : Real{};
  const Real in_domain = threshold > 0 ? (rest > 0 ? below : Real{}) : Real{};
  return weight > 0 ? in_domain : Real{};
}

/// 1 up to l2, 0 from l1 on, z / rho - z / l1 between them, z = l1 l2 / (l1 - l2); 0 unless l1 > l2 > 0.
///
/// Written as l2 / rho (1 - (rho - l2) / (l1 - l2)): two factors in [0, 1], where z may be beyond all numbers.
template <class Real>
SPCL_HD Real mixture_weight(Real difficulty, Real upper, Real lower) {
  const Real between = lower / difficulty * (1 - (difficulty - lower) / (upper - lower));
  const Real weight = difficulty < upper ? between : Real{};
  const Real inside = difficulty <= lower ? Real{} + 1 : weight;
  return upper >= lower ? (lower > 0 ? inside : Real{}) : Real{};
}

/// root(1 - rho / lambda) below lambda, at most 1; 0 for lambda <= 0. `root(x, x_minus_1)` is the caller's.
template <class Real, class Root>
SPCL_HD Real polynomial_weight(Real difficulty, Real threshold, Root root) {
  const Real rho = difficulty < 0 ? Real{} : difficulty;
  const Real share = rho / threshold;
  // Near lambda the subtraction of the numbers is exact, and that of their ratio is not.
  const Real rest = 2 * share < 1 ? 1 - share : (threshold - rho) / threshold;
  const Real left = difficulty < threshold ? (threshold > 0 ? rest : Real{}) : Real{};
  const Real power = root(left > 0 ? left : Real{} + 1, left > 0 ? -share : Real{});
  return left > 0 ? power : Real{};
}

/// The difficulty itself where it is above 0 and finite, else 0.
template <class Real>
SPCL_HD Real given_weight(Real difficulty) {
  const Real finite = 2 * difficulty == difficulty ? Real{} : difficulty;  // twice itself: 0 or +Inf
  return difficulty > 0 ? finite : Real{};
}

}  // namespace SPCL_ISA
}  // namespace spcl
