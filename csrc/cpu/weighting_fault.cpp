#include <cstdint>
#include <sstream>
#include <string>

#include "cpu/self_paced_weights.h"

namespace spcl {
namespace {

std::string text(double value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

}  // namespace

Fault weighting_fault(int64_t scheme, double parameter, std::optional<double> threshold) {
  if (scheme < 0 || scheme > static_cast<int64_t>(Scheme::kSpld)) {
    return {"scheme must be 0 (hard), 1 (linear), 2 (logistic), 3 (log), 4 (mixture), 5 (polynomial) or 6 (spld)",
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
      if (!(is_finite && parameter > 1)) return {"degree of polynomial must be finite and above 1", text(parameter)};
      break;
    case Scheme::kSpld:
      if (!(is_finite && parameter >= 0)) return {"gamma of spld must be finite and at least 0", text(parameter)};
      break;
    default:
      break;
  }
  return {};
}

}  // namespace spcl
