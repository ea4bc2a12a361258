// Loss and gradient of one row of joint logits; every kernel, on every device, goes through it.
//
// torch's cross entropy: with p = softmax(J), label y, class weights w and smoothing e,
//   l = -(1 - e) w_y log p_y - (e / C) sum_c w_c log p_c,   dl/dJ_c = p_c (a_1 + ... + a_C) - a_c,
//   a_c = (1 - e) w_y [c = y] + (e / C) w_c.
//
// `Real` is a number or a GCC vector of lanes, as in math/modality_scores.h. Included once per instruction set
// (cpu/every_isa.h), hence no include guard and a namespace for each.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

/// Sum that keeps its error that of one tile, however many tiles are added (Kahan).
template <class Real>
struct TileSum {
  Real total{}, error{}, tile{};

  SPCL_HD void close_tile() {
    const Real corrected = tile - error;
    const Real next = total + corrected;
    const Real lost = (next - total) - corrected;
    error = lost == lost ? lost : Real{};  // an infinite sum stays what it is
    total = next;
    tile = Real{};
  }
};

/// Gathers what a weighted and smoothed loss needs while the classes go by, each as z - max z.
template <class Real>
struct SmoothedLoss {
  TileSum<Real> weighted_shifts;  // sum_c w_c (z_c - max z)
  Real true_weight{};

  template <class Weight, class Mask>
  SPCL_HD void add(Real class_shift, Weight class_weight, Mask is_true) {
    weighted_shifts.tile = weighted_shifts.tile + class_weight * class_shift;
    true_weight = is_true ? Real{} + class_weight : true_weight;
  }

  /// `plain` is -log p_y, `log_sum` the log of the sum of exponentials, `weight_sum` that of the class weights.
  template <class Weight>
  SPCL_HD Real finish(Real plain, Real log_sum, Weight weight_sum, Weight smoothing, Weight num_classes) const {
    const Real own = true_weight * plain;
    const Real all = log_sum * weight_sum - weighted_shifts.total;
    return smoothing > 0 ? (1 - smoothing) * own + all * (smoothing / num_classes) : own;
  }
};

}  // namespace SPCL_ISA
}  // namespace spcl
