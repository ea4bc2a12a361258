// SuperLoss (Castells et al. 2020): the confidence in one loss, sigma = exp(-W0(x)) with Lambert's W and
// x = max(-2/e, (l - tau) / lambda) / 2, and the value (l - tau) sigma + lambda log(sigma)^2.
//
// `Real` is a number or a GCC vector of lanes, as in math/modality_scores.h, `Number` that of a lane. Included once per
// instruction set (cpu/every_isa.h), hence no include guard and a namespace for each.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

/// What the confidences of a call have in common. The threshold and lambda, the regularization, count in the type of
/// the losses; lambda within what its double and its inverse can be.
template <class Number>
struct SuperLossRule {
  Number threshold, twice, inverse;  // tau, 2 lambda, 1 / (2 lambda)
  Number high, low;                  // 2/e lambda, and what that lacks

  SPCL_HD SuperLossRule() : threshold{}, twice{}, inverse{}, high{}, low{} {}
  SPCL_HD SuperLossRule(double tau, double regularization) : threshold(static_cast<Number>(tau)) {
    constexpr bool is_double = sizeof(Number) == 8;
    constexpr double two_over_e = 0x1.78b56362cef38p-1, rest = -0x1.ca8a4270fadf5p-56;
    const double least = is_double ? 0x1p-1000 : 0x1p-120, most = is_double ? 0x1p1000 : 0x1p120;
    const double lambda = regularization < least ? least : (regularization > most ? most : regularization);
    const auto own = static_cast<Number>(lambda);
    const double product = two_over_e * static_cast<double>(own);
    twice = 2 * own;
    inverse = 1 / twice;
    high = static_cast<Number>(product);
    const double error =
        is_double ? multiply_subtract(two_over_e, static_cast<double>(own), product) + rest * static_cast<double>(own)
                  : product - static_cast<double>(high);
    low = static_cast<Number>(error);
  }
};

/// x + 1/e, at least 0; +Inf for a distance l - tau that is +Inf or NaN.
///
/// The confidence goes like the root of it near 0, so it has to have all its digits there: the rounding errors of the
/// distance and of 2/e lambda, which are numbers themselves, are added to what is left of their sum.
template <class Real, class Number>
SPCL_HD Real above_branch(Real loss, const SuperLossRule<Number>& rule) {
  const Real distance = loss - rule.threshold;
  const Real taken = distance - loss;
  const Real error = (loss - (distance - taken)) - (rule.threshold + taken);
  const Real rest = (distance + rule.high) + (error == error ? rule.low + error : Real{});
  const Real over = (rest > 0 ? rest : Real{}) * rule.inverse;
  const Real infinity = Real{} + static_cast<Number>(__builtin_inf());
  return distance < infinity ? over : infinity;
}

/// sigma, in [0, e]: 0 for a loss of +Inf, NaN, or as far above the threshold as no number is.
///
/// `log sigma + x sigma = 0` is solved by steps of fourth order (Fritsch, Shafer and Crowley 1973), one in float32 and
/// two in float64, for D = e / sigma - 1 >= 0, in which nothing cancels: with t = x + 1/e,
/// 1 + W0(x) = t sigma + D / (1 + D) and log sigma = 1 - log(1 + D). The start is a fit, right to 0.5 % for x below
/// 1e37 and, at the branch point, to second order; log and sqrt are the caller's. Errors: 4e-7 and 6e-16 of the
/// confidence.
template <class Number, class Real, class Log, class Sqrt>
SPCL_HD Real super_loss_weight(Real loss, const SuperLossRule<Number>& rule, Log log, Sqrt sqrt) {
  constexpr bool is_double = sizeof(Number) == 8;
  const auto number = [](double value) SPCL_INLINE { return static_cast<Number>(value); };
  const Number e = number(2.718281828459045);
  const Real t = above_branch(loss, rule);
  const Real y = number(2.331643981597124) * sqrt(t);  // sqrt(2 e t)
  const Real a = log(1 + number(0.1814574797054844) * y);
  const Real part = 1 + number(0.21077377) * a;
  const Real whole = part + a * (number(0.5473840838310379) + number(0.22375469) * a);
  Real D = y * part / whole * (1 + number(0.2659936029495424) * y);
  for (int step = 1;; ++step) {
    const Real over = 1 + D, inverse = 1 / over;
    const Real above = t * (e * inverse) + D * inverse;  // 1 + W0
    const Real z = log(over) + (D - (over - 1)) * inverse - above;
    const Real q = 2 * above * (above + number(2.0 / 3) * z);
    const Real change = z * (q - z) / (above * (q - 2 * z));
    const Real kept = D > number(is_double ? 1e-8 : 1e-4) ? change : Real{};  // below, the fit has all digits
    if (step == (is_double ? 2 : 1)) {
      return t < Real{} + number(__builtin_inf()) ? e * inverse * (1 + kept) : Real{};
    }
    D = (D - kept) / (1 + kept);
  }
}

/// The value of a loss whose confidence is `weight`; NaN for NaN, and +Inf where there is no confidence.
///
/// log sigma = -x sigma, but 1 where x is cut.
template <class Number, class Real>
SPCL_HD Real super_loss_value(Real loss, Real weight, const SuperLossRule<Number>& rule) {
  const Real part = (loss - rule.threshold) * weight;
  const Real uncut = -part * rule.inverse;
  const Real log_weight = uncut < 1 ? uncut : Real{} + 1;
  const Real value = part + rule.twice / 2 * log_weight * log_weight;
  const Real any = weight > 0 ? value : Real{} + static_cast<Number>(__builtin_inf());
  return loss == loss ? any : loss;
}

}  // namespace SPCL_ISA
}  // namespace spcl
