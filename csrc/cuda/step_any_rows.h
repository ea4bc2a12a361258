#pragma once

// The first phase of the step for rows of any number of classes and any number type, read where they are: `lanes`
// neighbouring threads share a row, each taking every lanes-th class, and read it as often as they need it.

#include "cuda/step_block.h"

namespace spcl {
namespace on_device {

template <class Stored, int lanes>
class AnyRows {
 public:
  typedef typename Computed<Stored>::Real Real;
  static constexpr int kClasses = 0;
  static constexpr int kBlocks = sizeof(Real) == 8 ? 1 : 3;

  __device__ __forceinline__ AnyRows(const StepCall& call, const StepPlan&, char*)
      : call_(call),
        classes_(call.logits.columns),
        smoothing_(static_cast<Real>(call.label_smoothing)),
        weight_sum_(static_cast<Real>(call.logits.columns)) {
    if (call.class_weight.data == nullptr) return;
    double sum = 0;
    for (int64_t c = threadIdx.x; c < classes_; c += kStepThreads) {
      const double w = proper_class_weight(call, c);
      sum += w == w ? w : 0.0;
    }
    weight_sum_ = static_cast<Real>(sum_of_group<kStepThreads>(sum));
  }

  /// Scores the rows [begin, end).
  __device__ __forceinline__ void score(const StepResults<Real>& to, int64_t begin, int64_t end, double* totals) const {
    constexpr int rows = kStepThreads / lanes;
    unsigned bad_label = 0, nonfinite = 0;
    for (int64_t first = begin; first < end; first += rows) {
      score_row(to, first + static_cast<int>(threadIdx.x) / lanes, end, bad_label, nonfinite);
    }
    add_count(totals + kBadLabel, bad_label);
    add_count(totals + kNonfinite, nonfinite);
  }

 private:
  /// All threads of the group, the warp or the block take part, with rows or without.
  __device__ __forceinline__ void score_row(const StepResults<Real>& to, int64_t row, int64_t end, unsigned& bad_label,
                                            unsigned& nonfinite) const {
    const bool is_active = row < end, counts_it = is_active && lane() == 0;
    bool is_bad = false, is_finite = true, has_any = false;
    int32_t label = -1;
    if (is_active) label = call_.labels.class_of(row, is_bad);
    for (int64_t m = 0; m < call_.logits.modalities; ++m) {
      const bool has = is_active && call_.present.at(m, row);
      const Real p = softmax_at(m, row, label, has);
      is_finite &= p == p || !has;
      has_any |= has;
      if (counts_it) to.confidence(m, row) = has ? p : nan_of<Real>();
    }
    const int64_t limit = is_active ? classes_ : 0;  // a row that is not there has no classes
    Real* gradient = to.has_gradient() ? to.gradient(row) : nullptr;

    Real maximum = -infinity_of<Real>();
    for (int64_t c = lane(); c < limit; c += lanes) {
      const Real j = joint_at(row, c);
      maximum = j > maximum ? j : maximum;
      if (gradient != nullptr) gradient[c] = j;  // which is quicker to read than the logits of every modality
    }
    maximum = max_of_group<lanes>(maximum);
    const auto joint = [&](int64_t c) { return gradient == nullptr ? joint_at(row, c) : gradient[c]; };

    const bool is_weighted = call_.class_weight.data != nullptr || smoothing_ > 0;
    SmoothedLoss<Real> smoothed;
    Real sum = 0, true_shift = 0;
    for (int64_t c = lane(); c < limit; c += lanes) {
      const Real shift = joint(c) - maximum;
      sum += exp_of(shift);
      if (is_weighted) smoothed.add(shift, class_weight(c), label == c);
      true_shift = label == c ? shift : true_shift;
    }
    sum = sum_of_group<lanes>(sum);
    true_shift = sum_of_group<lanes>(true_shift);  // 0 in all lanes but one
    const Real log_sum = log_of(sum), plain = log_sum - true_shift;
    Real loss = plain, own = 1, all = 1;
    const Real smooth = smoothing_ / static_cast<Real>(classes_);
    if (is_weighted) {
      smoothed.weighted_shifts.total = sum_of_group<lanes>(smoothed.weighted_shifts.tile);
      smoothed.true_weight = label < 0 ? Real{} : class_weight(label);
      loss = smoothed.finish(plain, log_sum, weight_sum_, smoothing_, static_cast<Real>(classes_));
      own = smoothed.true_weight * (1 - smoothing_);
      all = own + smooth * weight_sum_;
    }
    if (!is_active) return;

    const bool is_candidate = label >= 0 && has_any;
    is_finite &= loss == loss && has_proper_weight(label);
    const bool is_scored = is_candidate && is_finite;
    if (counts_it) {
      bad_label += is_bad;
      nonfinite += is_candidate && (!is_finite || loss == infinity_of<Real>());
      to.loss(row) = is_scored ? loss : nan_of<Real>();
      for (int64_t m = 0; !is_scored && m < call_.logits.modalities; ++m) to.confidence(m, row) = nan_of<Real>();
    }
    if (gradient == nullptr) return;
    const Real inverse = 1 / sum;
    for (int64_t c = lane(); c < classes_; c += lanes) {
      Real g = exp_of(gradient[c] - maximum) * inverse * all;
      g = label == c ? g - own : g;
      if (smoothing_ > 0) g = g - smooth * class_weight(c);
      gradient[c] = is_scored ? g : Real{};
    }
  }

  __device__ __forceinline__ static int lane() { return static_cast<int>(threadIdx.x) % lanes; }

  __device__ __forceinline__ Real class_weight(int64_t c) const {
    if (call_.class_weight.data == nullptr) return 1;
    const double w = proper_class_weight(call_, c);
    return w == w ? static_cast<Real>(w) : Real{};
  }
  __device__ __forceinline__ bool has_proper_weight(int32_t label) const {
    if (call_.class_weight.data == nullptr || label < 0) return true;
    const double w = proper_class_weight(call_, label);
    return w == w;
  }

  __device__ __forceinline__ static Real number(const Sources::Source& source, int64_t row, int64_t c) {
    return load<Stored>(source.data + row * source.row_stride + c * source.class_stride);
  }

  /// Softmax of modality m at the label, of a row that has it.
  __device__ __forceinline__ Real softmax_at(int64_t m, int64_t row, int32_t label, bool has) const {
    const Sources::Source source = call_.logits.modality(m);
    const int64_t limit = has ? classes_ : 0;
    Real maximum = -infinity_of<Real>();
    for (int64_t c = lane(); c < limit; c += lanes) {
      const Real z = number(source, row, c);
      maximum = z > maximum ? z : maximum;
    }
    maximum = max_of_group<lanes>(maximum);
    Real sum = 0;
    for (int64_t c = lane(); c < limit; c += lanes) sum += exp_of(number(source, row, c) - maximum);
    sum = sum_of_group<lanes>(sum);
    const Real own = has && label >= 0 ? exp_of(number(source, row, label) - maximum) : Real{};
    return own / sum;
  }

  __device__ __forceinline__ Real joint_at(int64_t row, int64_t c) const {
    if (call_.joint.data != nullptr) {
      const char* address = call_.joint.data + row * call_.joint.row_stride + c * call_.joint.class_stride;
      return static_cast<Real>(load_number(call_.joint_type, address));
    }
    Real sum = Real(-0.0);  // what any number, -0 too, is added to and stays the same
    for (int64_t m = 0; m < call_.logits.modalities; ++m) {
      sum += call_.present.at(m, row) ? number(call_.logits.modality(m), row, c) : Real{};
    }
    return sum;
  }

  const StepCall& call_;
  const int64_t classes_;
  const Real smoothing_;
  Real weight_sum_;
};

}  // namespace on_device
}  // namespace spcl
