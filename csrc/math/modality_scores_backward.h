// What one row of `modality_scores` sends back; every kernel, on every device, goes through it.
//
// With p = softmax(z), y the label, r its best rival (n classes that tie share evenly, as in torch's amax), H the
// entropy and d = z - max z, so that log p_c + H = d_c - sum_k p_k d_k needs no logarithm:
//   dloss/dz_c = p_c - [c = y]            dconfidence/dz_c = p_y ([c = y] - p_c)
//   dentropy/dz_c = -p_c (log p_c + H)    dmargin/dz_c = p_y ([c = y] - p_c) - p_r ([c = r] / n - p_c)
//
// `Real` is a number or a GCC vector of lanes, as in math/modality_scores.h. Included once per instruction set
// (cpu/every_isa.h), hence no include guard and a namespace for each.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

/// The gradients that arrive at the four scores of a row.
template <class Real>
struct ScoreGradients {
  Real loss, confidence, entropy, margin;
};

/// The row's gradient as a function of the class: p_c (common - slope d_c), and more at the label and at its rivals.
template <class Real>
struct RowGradient {
  Real common, slope;  // divided by the sum of the exponentials, so that e^d_c stands for p_c
  Real at_label, at_rival;

  /// From sum_c e^d_c, sum_c e^d_c d_c and e^d of the label and of a rival; 0 in place of what no gradient asks for.
  SPCL_HD RowGradient(const ScoreGradients<Real>& of, Real sum, Real weighted, Real true_exp, Real rival_exp,
                      Real ties) {
    const Real scale = 1 / sum;
    const Real p = true_exp * scale, rival = rival_exp * scale;
    const Real own = (of.confidence + of.margin) * p;
    common = (of.loss - own + of.margin * rival + of.entropy * (weighted * scale)) * scale;
    slope = of.entropy * scale;
    at_label = own - of.loss;
    at_rival = of.margin * rival / ties;
  }

  /// `shift` is d, no smaller than some finite number below which e^d is 0: 0 log 0 = 0 then needs no branch.
  SPCL_HD Real with_entropy(Real shift, Real exponential) const { return exponential * (common - slope * shift); }
  SPCL_HD Real without_entropy(Real exponential) const { return exponential * common; }
};

}  // namespace SPCL_ISA
}  // namespace spcl
