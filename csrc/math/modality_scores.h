// The mathematics of one row of `modality_scores`; every kernel, on every device, goes through it.
//
// `Real` is a number (one row) or a GCC vector of lanes (one row a lane): the code uses only operators and
// the ternary, which mean the same for both. exp and log are the caller's, because they differ by device.
//
// Included once per instruction set (cpu/every_isa.h), hence no include guard and a namespace for each:
// vector code is lowered to instructions before inlining, so it has to be compiled under the target that runs
// it.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

template <class Real>
struct RowScores {
  Real loss, confidence, entropy, margin;
};

/// Gathers what the four scores need while the classes of a row go by, each as (z - max z, exp(z - max z)).
///
/// 0 log 0 = 0: a class of probability zero has the difference -Inf, and its product would be NaN. `bounded` is the
/// difference, or where that is smaller a number whose exponential is zero as well.
///
/// Faults need no branch. A NaN or +Inf logit, or a row that is all -Inf, gives a NaN difference, so a NaN
/// sum and four NaN. A label that no class equals leaves true_exp NaN, and finish() spreads it.
template <class Real>
struct RowSums {
  Real sum, sum_error;            // sum_c e^d_c, compensated from tile to tile
  Real weighted, weighted_error;  // sum_c e^d_c d_c
  Real tile_sum, tile_weighted;
  Real true_shift, true_exp;  // d and e^d of the label's class
  Real other_exp;             // the largest e^d of the other classes

  SPCL_HD RowSums(Real nan, bool has_others)
      : sum{},
        sum_error{},
        weighted{},
        weighted_error{},
        tile_sum{},
        tile_weighted{},
        true_shift(nan),
        true_exp(nan),
        other_exp(has_others ? Real{} : nan) {}

  template <class Mask, class MultiplyAdd>
  SPCL_HD void add(Real shift, Real bounded, Real exponential, Mask is_true, MultiplyAdd multiply_add) {
    add_to_tile(bounded, exponential, multiply_add);
    true_shift = is_true ? shift : true_shift;
    true_exp = is_true ? exponential : true_exp;
    const Real rival = is_true ? other_exp : exponential;
    other_exp = rival > other_exp ? rival : other_exp;
  }

  /// The sums alone, for a caller that knows the label's class and its rivals by other means.
  template <class MultiplyAdd>
  SPCL_HD void add_to_tile(Real bounded, Real exponential, MultiplyAdd multiply_add) {
    tile_sum = tile_sum + exponential;
    tile_weighted = multiply_add(exponential, bounded, tile_weighted);
  }

  /// For rows of a single tile: its sums are the totals.
  SPCL_HD void close_only_tile() {
    sum = tile_sum;
    weighted = tile_weighted;
  }

  /// Folds the tile into the totals. Kahan's sum keeps the error that of one tile, however many classes.
  SPCL_HD void close_tile() {
    fold(sum, sum_error, tile_sum);
    fold(weighted, weighted_error, tile_weighted);
    tile_sum = Real{};
    tile_weighted = Real{};
  }

  template <class Log>
  SPCL_HD RowScores<Real> finish(Log log) const {
    return finish(log, [](Real part, Real total) SPCL_INLINE { return part / total; });
  }

  /// `divide` takes a part and the total, which is at least 1 or NaN.
  template <class Log, class Divide>
  SPCL_HD RowScores<Real> finish(Log log, Divide divide) const {
    // No true class (ignored, out of range, absent): every score is NaN, the entropy too.
    const Real total = true_exp == true_exp ? sum : true_exp;
    const Real log_total = log(total);
    return {log_total - true_shift, divide(true_exp, total), log_total - divide(weighted, total),
            divide(true_exp - other_exp, total)};
  }

 private:
  SPCL_HD static void fold(Real& total, Real& error, Real part) {
    const Real corrected = part - error;
    const Real next = total + corrected;
    error = (next - total) - corrected;
    total = next;
  }
};

}  // namespace SPCL_ISA
}  // namespace spcl
