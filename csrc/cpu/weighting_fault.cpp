#include <cstdint>
#include <sstream>
#include <string>

#include "cpu/self_paced_weights.h"
#include "math/measure.h"

namespace spcl {
namespace {

std::string text(double value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

}  // namespace

Fault weighting_fault(int64_t scheme, double parameter, std::optional<double> threshold) {
  if (scheme < 0 || scheme > static_cast<int64_t>(Scheme::kPolynomialOfCurml)) {
    return {
        "scheme must be 0 (hard), 1 (linear), 2 (logistic), 3 (log), 4 (mixture), 5 (polynomial), 6 (spld), 7 "
        "(superloss), 8 (given) or 9 (polynomial of CurML)",
        std::to_string(scheme)};
  }
  const bool is_finite = parameter - parameter == 0;
  const double lambda = threshold.value_or(0);
  if (lambda != lambda) return {"threshold must not be NaN", "nan"};
  switch (static_cast<Scheme>(scheme)) {
    case Scheme::kLog:
      if (threshold && !(lambda > 0 && lambda < 1)) return {"threshold of log must lie in (0, 1)", text(lambda)};
      break;
    case Scheme::kMixture:
      if (!(is_finite && parameter > 0)) return {"lower of mixture must be finite and above 0", text(parameter)};
      if (threshold && !(lambda > parameter)) {
        return {"threshold of mixture must be above lower, " + text(parameter), text(lambda)};
      }
      break;
    case Scheme::kPolynomial:
    case Scheme::kPolynomialOfCurml:
      if (!(is_finite && parameter > 1)) return {"degree of polynomial must be finite and above 1", text(parameter)};
      break;
    case Scheme::kSpld:
      if (!(is_finite && parameter >= 0)) return {"gamma of spld must be finite and at least 0", text(parameter)};
      break;
    case Scheme::kSuperLoss:
      if (!(is_finite && parameter > 0)) {
        return {"regularization of superloss must be finite and above 0", text(parameter)};
      }
      break;
    default:
      break;
  }
  return {};
}

Fault measure_fault(int64_t measure, int64_t modalities, bool has_extra) {
  if (measure < 0 || measure > static_cast<int64_t>(Measure::kNone)) {
    return {"measure must be 0 (spcl), 1 (loss), 2 (spread) or 3 (none)", std::to_string(measure)};
  }
  if (modalities < 1) return {"logits must have at least one modality", std::to_string(modalities)};
  if (modalities < 2 && needs_spread(static_cast<Measure>(measure))) {
    return {"the spread between modalities needs at least 2 of them", std::to_string(modalities)};
  }
  if (static_cast<Measure>(measure) == Measure::kNone && !has_extra) {
    return {"measure 3 (none) needs extra_difficulty", "none"};
  }
  return {};
}

}  // namespace spcl
