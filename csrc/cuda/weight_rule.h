#pragma once

// The weight of one utterance, at a threshold that may be on the device.

#include "cuda/inputs.h"
#include "cuda/math.h"

namespace spcl {

namespace on_device {

/// A weighting in the type of the difficulties, with what every weight of a scheme needs. A threshold outside the
/// domain of its scheme, or NaN, gives weights of 0. Of every scheme but kSpld, which needs ranks.
template <class Real>
struct WeightRule {
  Scheme scheme;
  Real threshold;
  Real parameter;  // kMixture: the smaller threshold; kPolynomial: 1 / (degree - 1); kLog: 1 - threshold
  Real log_rest;   // kLog: the log of that

  __device__ explicit WeightRule(const DeviceWeighting& weighting)
      : scheme(weighting.scheme), parameter(static_cast<Real>(weighting.parameter)), log_rest(0) {
    const double level = weighting.threshold();
    threshold = static_cast<Real>(level);
    if (scheme == Scheme::kPolynomial || scheme == Scheme::kPolynomialOfCurml) {
      parameter = static_cast<Real>(1 / (weighting.parameter - 1));
    }
    if (scheme == Scheme::kLog) {
      parameter = static_cast<Real>(1 - level);
      log_rest = log_near_one(parameter, -threshold, [](Real x) { return log_of(x); });
    }
  }

  __device__ __forceinline__ Real operator()(Real difficulty) const {
    const auto exp = [](Real x) { return exp_of(x); };
    const auto log = [](Real x) { return log_of(x); };
    switch (scheme) {
      case Scheme::kHard:
        return hard_weight(difficulty, threshold);
      case Scheme::kLinear:
        return linear_weight(difficulty, threshold);
      case Scheme::kLogistic:
        return logistic_weight(difficulty, threshold, exp);
      case Scheme::kLog:
        return log_weight(difficulty, threshold, parameter, log_rest, log);
      case Scheme::kMixture:
        return mixture_weight(difficulty, threshold, parameter);
      case Scheme::kPolynomial: {
        const Real power = parameter;
        return polynomial_weight(difficulty, threshold, [&](Real x, Real x_minus_1) {
          return power == Real(0.5) ? sqrt(x) : exp_of(power * log_near_one(x, x_minus_1, log));
        });
      }
      case Scheme::kPolynomialOfCurml:
        return polynomial_weight(difficulty, threshold, [&](Real x, Real) { return parameter * x; });
      case Scheme::kSuperLoss: {  // whose rule, held all the time, would cost the step registers that it has not
        const SuperLossRule<Real> rule(static_cast<double>(threshold), static_cast<double>(parameter));
        return super_loss_weight(difficulty, rule, log, [](Real x) { return sqrt(x); });
      }
      case Scheme::kGiven:
        return given_weight(difficulty);
      case Scheme::kSpld:
        break;
    }
    return 0;
  }
};

}  // namespace on_device
}  // namespace spcl
