// The kernel, for the instruction set being compiled (see cpu/every_isa.h): one loss a lane.

#include "cpu/lanes.h"
//
#include "cpu/sum16.h"
#include "cpu/weight_of.h"

namespace spcl {
namespace SPCL_ISA {

template <class Real>
void super_loss(const Real* loss, Real* value, Real* weight, int64_t count, const SuperLossRule<Real>& rule) {
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  const auto log = [](Vector x) SPCL_INLINE { return Traits::log(x); };
  const auto sqrt = [](Vector x) SPCL_INLINE { return Traits::sqrt(x); };
  for (int64_t i = 0; i < count; i += Traits::count) {
    const int here = count - i < Traits::count ? static_cast<int>(count - i) : Traits::count;
    const Vector l = load_lanes<Real>(loss + i, here, Real{});
    const Vector sigma = super_loss_weight(l, rule, log, sqrt);
    store_lanes<Real>(super_loss_value(l, sigma, rule), here, value + i);
    store_lanes<Real>(sigma, here, weight + i);
  }
}

void super_loss(FloatType type, const void* loss, void* value, void* weight, int64_t count, double threshold,
                double regularization) {
  if (type == FloatType::kFloat64) {
    const SuperLossRule<double> rule(threshold, regularization);
    return super_loss(static_cast<const double*>(loss), static_cast<double*>(value), static_cast<double*>(weight),
                      count, rule);
  }
  const SuperLossRule<float> rule(threshold, regularization);
  super_loss(static_cast<const float*>(loss), static_cast<float*>(value), static_cast<float*>(weight), count, rule);
}

}  // namespace SPCL_ISA
}  // namespace spcl
