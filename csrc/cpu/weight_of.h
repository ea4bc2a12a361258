// The weights of a vector of difficulties, for the instruction set being compiled. Comes after cpu/lanes.h, which
// has no include guard.

#include "math/self_paced_weights.h"

namespace spcl {
namespace SPCL_ISA {

template <class Real>
SPCL_HD typename Lanes<Real>::Vector weight_of(typename Lanes<Real>::Vector difficulty, Real level, Scheme scheme) {
  using Vector = typename Lanes<Real>::Vector;
  const Vector threshold = Vector{} + level;
  switch (scheme) {
    case Scheme::kHard:
      return hard_weight(difficulty, threshold);
    case Scheme::kLinear:
      return linear_weight(difficulty, threshold);
    case Scheme::kLogistic:
      return logistic_weight(difficulty, threshold, [](Vector x) { return Lanes<Real>::exp(x); });
  }
  __builtin_unreachable();
}

}  // namespace SPCL_ISA
}  // namespace spcl
