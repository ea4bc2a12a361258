// The weights of a vector of difficulties, for the instruction set being compiled. Comes after cpu/lanes.h, which
// has no include guard.

#include "math/self_paced_weights.h"
#include "math/super_loss.h"

namespace spcl {
namespace SPCL_ISA {

/// A weighting in the type of the difficulties, with what every weight of a scheme needs.
template <class Real>
struct WeightRule {
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;

  Scheme scheme;
  Real threshold;
  Real parameter;      // kMixture: the smaller threshold; kPolynomial: 1 / (degree - 1); kLog: 1 - threshold
  Real log_rest = {};  // kLog: the log of that
  SuperLossRule<Real> super_loss;

  explicit WeightRule(const Weighting& weighting)
      : scheme(weighting.scheme),
        threshold(static_cast<Real>(weighting.threshold)),
        parameter(static_cast<Real>(weighting.parameter)) {
    if (scheme == Scheme::kPolynomial || scheme == Scheme::kPolynomialOfCurml) {
      parameter = static_cast<Real>(1 / (weighting.parameter - 1));
    }
    if (scheme == Scheme::kSuperLoss) super_loss = {weighting.threshold, weighting.parameter};
    if (scheme == Scheme::kLog) {
      parameter = static_cast<Real>(1 - weighting.threshold);
      const auto log = [](Vector x) { return Traits::log(x); };
      log_rest = log_near_one(Vector{} + parameter, Vector{} - threshold, log)[0];
    }
  }

  /// The weights of every scheme but kSpld, which needs ranks and gives no weight here.
  SPCL_HD Vector operator()(Vector difficulty) const {
    const auto exp = [](Vector x) { return Traits::exp(x); };
    const auto log = [](Vector x) { return Traits::log(x); };
    const Vector level = Vector{} + threshold;
    switch (scheme) {
      case Scheme::kHard:
        return hard_weight(difficulty, level);
      case Scheme::kLinear:
        return linear_weight(difficulty, level);
      case Scheme::kLogistic:
        return logistic_weight(difficulty, level, exp);
      case Scheme::kLog:
        return log_weight(difficulty, level, Vector{} + parameter, Vector{} + log_rest, log);
      case Scheme::kMixture:
        return mixture_weight(difficulty, level, Vector{} + parameter);
      case Scheme::kPolynomial:
        if (parameter == Real{0.5}) {
          return polynomial_weight(difficulty, level, [](Vector x, Vector) { return Traits::sqrt(x); });
        }
        return polynomial_weight(difficulty, level, [&](Vector x, Vector x_minus_1) {
          return exp(parameter * log_near_one(x, x_minus_1, log));
        });
      case Scheme::kPolynomialOfCurml:
        return polynomial_weight(difficulty, level, [&](Vector x, Vector) { return parameter * x; });
      case Scheme::kSuperLoss:
        return super_loss_weight(difficulty, super_loss, log, [](Vector x) { return Traits::sqrt(x); });
      case Scheme::kGiven:
        return given_weight(difficulty);
      case Scheme::kSpld:
        return Vector{};
    }
    __builtin_unreachable();
  }

  /// The same for a loop that does much else: only the usual scheme is part of it, since the loop would have to keep
  /// its registers free for what the others need.
  SPCL_HD Vector mostly_hard(const Vector& difficulty) const {
    if (scheme == Scheme::kHard) return hard_weight(difficulty, Vector{} + threshold);
    Vector weight;
    apart(difficulty, weight);
    return weight;
  }

 private:
  __attribute__((noinline)) void apart(const Vector& difficulty, Vector& weight) const { weight = (*this)(difficulty); }
};

}  // namespace SPCL_ISA
}  // namespace spcl
