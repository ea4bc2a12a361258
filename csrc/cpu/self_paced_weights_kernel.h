// The kernel, for the instruction set being compiled (see cpu/every_isa.h): one difficulty a lane.

#include "cpu/lanes.h"
//
#include "cpu/sum16.h"
#include "cpu/weight_of.h"

namespace spcl {
namespace SPCL_ISA {

template <class Real>
void self_paced_weights(const Real* difficulty, Real* weight, int64_t count, Real threshold, Scheme scheme) {
  constexpr int lanes = Lanes<Real>::count;
  for (int64_t i = 0; i < count; i += lanes) {
    const int here = count - i < lanes ? static_cast<int>(count - i) : lanes;
    store_lanes<Real>(weight_of<Real>(load_lanes<Real>(difficulty + i, here, Real{}), threshold, scheme), here,
                      weight + i);
  }
}

void self_paced_weights(FloatType type, const void* difficulty, void* weight, int64_t count, double threshold,
                        Scheme scheme) {
  if (type == FloatType::kFloat64) {
    return self_paced_weights(static_cast<const double*>(difficulty), static_cast<double*>(weight), count, threshold,
                              scheme);
  }
  self_paced_weights(static_cast<const float*>(difficulty), static_cast<float*>(weight), count,
                     static_cast<float>(threshold), scheme);
}

}  // namespace SPCL_ISA
}  // namespace spcl
