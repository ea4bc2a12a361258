// The kernel, for the instruction set being compiled (see cpu/every_isa.h): one difficulty a lane.

#include "cpu/lanes.h"
//
#include "cpu/sum16.h"
#include "cpu/weight_of.h"

namespace spcl {
namespace SPCL_ISA {

template <class Real>
void self_paced_weights(const Real* difficulty, Real* weight, int64_t count, const Weighting& weighting) {
  constexpr int lanes = Lanes<Real>::count;
  const WeightRule<Real> weight_of(weighting);
  for (int64_t i = 0; i < count; i += lanes) {
    const int here = count - i < lanes ? static_cast<int>(count - i) : lanes;
    store_lanes<Real>(weight_of(load_lanes<Real>(difficulty + i, here, Real{})), here, weight + i);
  }
}

void self_paced_weights(FloatType type, const void* difficulty, void* weight, int64_t count,
                        const Weighting& weighting) {
  if (type == FloatType::kFloat64) {
    return self_paced_weights(static_cast<const double*>(difficulty), static_cast<double*>(weight), count, weighting);
  }
  self_paced_weights(static_cast<const float*>(difficulty), static_cast<float*>(weight), count, weighting);
}

}  // namespace SPCL_ISA
}  // namespace spcl
