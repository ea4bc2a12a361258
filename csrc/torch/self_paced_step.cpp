#include "cpu/self_paced_step.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "self_paced_step";
// Dialogues are taken together until they hold this many utterances: what a range touches fits in the L2 cache.
constexpr int64_t kRangeRows = 1024;
// Below this many utterances waking the threads costs more than they save.
constexpr int64_t kSerialRows = 4096;

/// The work of one task: whole dialogues [first, last), or the rows [begin, end) of the long dialogue `first`.
struct Range {
  int64_t first, last, begin, end;
  bool is_part;
};

/// Cuts the batch where its offsets say, never where the number of threads would.
std::vector<Range> ranges_of(const std::vector<int64_t>& offsets) {
  const auto dialogues = static_cast<int64_t>(offsets.size()) - 1;
  const auto at = [&](int64_t d) { return offsets[static_cast<size_t>(d)]; };
  std::vector<Range> ranges;
  for (int64_t d = 0; d < dialogues;) {
    if (at(d + 1) - at(d) > kStepRows) {
      for (int64_t begin = at(d); begin < at(d + 1); begin += kStepRows) {
        ranges.push_back({d, d + 1, begin, std::min(begin + kStepRows, at(d + 1)), true});
      }
      ++d;
      continue;
    }
    int64_t last = d + 1;
    while (last < dialogues && at(last + 1) - at(d) <= kRangeRows) ++last;
    ranges.push_back({d, last, at(d), at(last), false});
    d = last;
  }
  return ranges;
}

/// Scratch memory of one thread: 64-byte vectors, each as many doubles or rows as the batch needs.
class Scratch {
 public:
  explicit Scratch(const StepBatch& batch, int64_t rows)
      : classes_bytes_(64 * batch.labels.num_classes),
        lanes_bytes_(128 * batch.modalities),
        memory_(static_cast<char*>(
            std::aligned_alloc(64, static_cast<size_t>(classes_bytes_ + lanes_bytes_ + (4 * rows + 63) / 64 * 64)))) {
    if (memory_ == nullptr) throw std::bad_alloc();
  }

  void lend_to(StepWork& work) const {
    work.classes = memory_.get();
    work.selected_lanes = memory_.get() + classes_bytes_;
    work.labels = reinterpret_cast<int32_t*>(memory_.get() + classes_bytes_ + lanes_bytes_);
  }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  int64_t classes_bytes_, lanes_bytes_;
  std::unique_ptr<char, Free> memory_;
};

/// Runs a batch: `work[k]` belongs to range k, so that the sums do not depend on the threads.
class Run {
 public:
  Run(const StepBatch& batch, const std::vector<int64_t>& offsets)
      : batch_(batch), offsets_(offsets), ranges_(ranges_of(offsets)), work_(ranges_.size()) {
    const auto modalities = static_cast<size_t>(batch.modalities);
    doubles_.resize(3 * modalities * ranges_.size());
    known_.resize(modalities * ranges_.size());
    for (size_t k = 0; k < work_.size(); ++k) {
      work_[k].confidence = &doubles_[3 * modalities * k];
      work_[k].selected_confidence = work_[k].confidence + modalities;
      work_[k].dialogue_sums = work_[k].selected_confidence + modalities;
      work_[k].known = &known_[modalities * k];
      if (ranges_[k].is_part) has_parts_ = true;
      longest_ = std::max(longest_, ranges_[k].end - ranges_[k].begin);
    }
  }

  /// Calls `task(range, work)` for every range, shared out over torch's threads.
  template <class Task>
  void for_ranges(const Task& task) {
    const auto body = [&](int64_t begin, int64_t end) {
      const Scratch scratch(batch_, longest_);
      for (int64_t k = begin; k < end; ++k) {
        scratch.lend_to(work_[static_cast<size_t>(k)]);
        task(ranges_[static_cast<size_t>(k)], work_[static_cast<size_t>(k)]);
      }
    };
    const auto count = static_cast<int64_t>(ranges_.size());
    if (count <= 1 || batch_.utterances <= kSerialRows) return body(0, count);
    torch::stable::parallel_for(0, count, 1, body);
  }

  int64_t candidates() {
    std::vector<int64_t> found(ranges_.size());
    for_ranges([&](const Range& range, StepWork& work) {
      found[static_cast<size_t>(&range - ranges_.data())] =
          step_candidates(batch_, range.begin, range.end, work.labels);
    });
    int64_t total = 0;
    for (const int64_t n : found) total += n;
    return total;
  }

  /// Everything but a gradient's scale; returns the totals.
  StepWork step(StepWork totals) {
    std::ranges::fill(doubles_, 0.0);
    for (StepWork& work : work_) work.sums = {};
    for_ranges([&](const Range& range, StepWork& work) {
      if (range.is_part) {
        step_score_part(batch_, range.begin, range.end, work);
      } else {
        step_dialogues(batch_, offsets_.data(), range.first, range.last, work);
      }
    });
    if (has_parts_) {
      spread_of_parts();
      for_ranges([&](const Range& range, StepWork& work) {
        if (range.is_part) step_weigh_part(batch_, range.first, range.begin, range.end, work);
      });
    }
    for (const StepWork& work : work_) add(work, totals);
    return totals;
  }

 private:
  void spread_of_parts() {
    const auto modalities = static_cast<size_t>(batch_.modalities);
    for (size_t k = 0; k < ranges_.size();) {
      if (!ranges_[k].is_part) {
        ++k;
        continue;
      }
      std::vector<double> sums(modalities);
      std::vector<int64_t> known(modalities);
      int64_t scored = 0;
      const int64_t dialogue = ranges_[k].first;
      for (; k < ranges_.size() && ranges_[k].is_part && ranges_[k].first == dialogue; ++k) {
        for (size_t m = 0; m < modalities; ++m) {
          sums[m] += work_[k].dialogue_sums[m];
          known[m] += work_[k].known[m];
        }
        scored += work_[k].sums.scored;
      }
      step_spread(batch_, dialogue, sums.data(), known.data(), scored);
    }
  }

  void add(const StepWork& work, StepWork& totals) const {
    totals.sums.scored += work.sums.scored;
    totals.sums.selected += work.sums.selected;
    totals.sums.nonfinite += work.sums.nonfinite;
    totals.sums.bad_label += work.sums.bad_label;
    totals.sums.undefined += work.sums.undefined;
    totals.sums.loss += work.sums.loss;
    totals.sums.weighted_loss += work.sums.weighted_loss;
    totals.sums.weight += work.sums.weight;
    for (int64_t m = 0; m < batch_.modalities; ++m) {
      totals.confidence[m] += work.confidence[m];
      totals.selected_confidence[m] += work.selected_confidence[m];
    }
  }

  const StepBatch& batch_;
  const std::vector<int64_t>& offsets_;
  const std::vector<Range> ranges_;
  std::vector<StepWork> work_;
  std::vector<double> doubles_;
  std::vector<int64_t> known_;
  int64_t longest_ = 0;
  bool has_parts_ = false;
};

template <class Real>
void scale_all(void* values, int64_t count, double factor) {
  Real* numbers = static_cast<Real*>(values);
  torch::stable::parallel_for(0, count, 1 << 16, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) numbers[k] *= static_cast<Real>(factor);
  });
}

}  // namespace

StepTensors self_paced_step_cpu(const std::vector<Tensor>& logits, const Tensor& labels, const Tensor& offsets,
                                const std::optional<Tensor>& threshold_tensor, std::optional<double> threshold,
                                const std::optional<Tensor>& joint, const std::optional<Tensor>& extra_difficulty,
                                const std::optional<Tensor>& class_weight, const std::optional<Tensor>& present,
                                int64_t scheme, bool divides_by_weight, bool of_means, double label_smoothing,
                                int64_t ignore_index, bool flags, bool needs_gradient) {
  isa();  // throws here, not on a worker thread
  const RowsInput z = checked_logits(kOp, logits);
  SPCL_CHECK(z.modalities >= 2 && z.modalities < 1 << 16, kOp,
             "the spread between modalities needs at least 2 of them, and fewer than 65536", z.modalities);
  SPCL_CHECK(z.columns > 0, kOp, "logits must have at least one class", z.columns);
  SPCL_CHECK(scheme >= 0 && scheme <= static_cast<int64_t>(Scheme::kLogistic), kOp,
             "scheme must be 0 (hard), 1 (linear) or 2 (logistic)", scheme);
  SPCL_CHECK(label_smoothing >= 0 && label_smoothing <= 1, kOp, "label_smoothing must lie in [0, 1]", label_smoothing);
  const LabelsInput y = checked_labels(kOp, labels, z.utterances);
  const PresentInput has = checked_present(kOp, present, z.modalities, z.utterances);
  const std::vector<int64_t> bounds = checked_offsets(kOp, offsets, z.utterances);
  const std::optional<double> lambda = checked_threshold(kOp, threshold_tensor, threshold);

  StepBatch batch{};
  std::vector<FloatRows> modalities(static_cast<size_t>(z.modalities));
  for (int64_t m = 0; m < z.modalities; ++m) modalities[static_cast<size_t>(m)] = z.modality(m);
  batch.logits = modalities.data();
  batch.modalities = z.modalities;
  batch.utterances = z.utterances;
  if (joint) batch.joint = checked_floats(kOp, "joint", *joint, {z.utterances, z.columns});
  batch.labels = y.rows(ignore_index, z.columns);
  batch.present = has.data;
  batch.present_modality_stride = has.modality_stride;
  batch.present_stride = has.stride;
  if (extra_difficulty) {
    const FloatRows extra = checked_floats(kOp, "extra_difficulty", *extra_difficulty, {z.utterances});
    batch.extra_difficulty = extra.data;
    batch.extra_type = extra.type;
    batch.extra_stride = extra.row_stride;
  }
  std::vector<double> weights;
  if (class_weight) {
    const FloatRows given = checked_floats(kOp, "class_weight", *class_weight, {z.columns});
    weights.resize(static_cast<size_t>(z.columns));
    for (size_t c = 0; c < weights.size(); ++c) {
      weights[c] = load_float(given.type, given.data + static_cast<int64_t>(c) * given.row_stride);
      SPCL_CHECK(weights[c] >= 0 && std::isfinite(weights[c]), kOp, "class_weight must be finite and at least 0",
                 weights[c]);
      batch.class_weight_sum += weights[c];
    }
    batch.class_weight = weights.data();
  } else {
    batch.class_weight_sum = static_cast<double>(z.columns);
  }
  batch.label_smoothing = label_smoothing;
  batch.selects_all = !lambda;
  batch.threshold = lambda.value_or(0);
  batch.scheme = static_cast<Scheme>(scheme);
  batch.of_means = of_means;

  const int64_t T = z.utterances, M = z.modalities;
  Tensor loss = new_tensor({}, z.result);
  Tensor weight = new_tensor({T}, z.result);
  Tensor difficulty = new_tensor({T}, z.result);
  Tensor utterance_loss = new_tensor({T}, z.result);
  Tensor confidence = new_tensor({M, T}, z.result);
  Tensor spread = new_tensor({static_cast<int64_t>(bounds.size()) - 1}, z.result);
  Tensor gradient = new_tensor({needs_gradient ? T : 0, z.columns}, z.result);
  Tensor counts = new_tensor({7}, ScalarType::Long);
  Tensor sums = new_tensor({1 + 2 * M}, ScalarType::Double);
  batch.weight = weight.mutable_data_ptr();
  batch.difficulty = difficulty.mutable_data_ptr();
  batch.utterance_loss = utterance_loss.mutable_data_ptr();
  batch.confidence = confidence.mutable_data_ptr();
  batch.spread = spread.mutable_data_ptr();
  batch.gradient = needs_gradient ? gradient.mutable_data_ptr() : nullptr;
  batch.gradient_scale = 1;

  auto* sums_data = static_cast<double*>(sums.mutable_data_ptr());
  StepWork totals{};
  totals.confidence = sums_data + 1;
  totals.selected_confidence = totals.confidence + M;
  Run run(batch, bounds);
  const auto scale_for = [](double norm) { return norm > 0 ? 1 / norm : 1; };
  // The gradient is divided by the number of scored utterances as it is written, so that it is written once. A
  // faulty logit makes that number wrong; then the batch is scored again.
  int64_t expected = needs_gradient && !divides_by_weight ? run.candidates() : 0;
  while (true) {
    batch.gradient_scale = divides_by_weight ? 1 : scale_for(static_cast<double>(expected));
    std::fill_n(sums_data, 1 + 2 * M, 0.0);
    totals.sums = {};
    totals = run.step(totals);
    if (!needs_gradient || divides_by_weight || totals.sums.scored == expected) break;
    expected = totals.sums.scored;
  }
  const double norm = divides_by_weight ? totals.sums.weight : static_cast<double>(totals.sums.scored);
  const double mean = totals.sums.weighted_loss / (norm > 0 ? norm : 1);
  if (z.result == ScalarType::Double) {
    *static_cast<double*>(loss.mutable_data_ptr()) = mean;
    if (needs_gradient && divides_by_weight) scale_all<double>(batch.gradient, T * z.columns, scale_for(norm));
  } else {
    *static_cast<float*>(loss.mutable_data_ptr()) = static_cast<float>(mean);
    if (needs_gradient && divides_by_weight) scale_all<float>(batch.gradient, T * z.columns, scale_for(norm));
  }
  sums_data[0] = totals.sums.loss;
  const int64_t found[7] = {1,
                            totals.sums.scored,
                            totals.sums.selected,
                            flags ? totals.sums.nonfinite : 0,
                            flags ? totals.sums.bad_label : 0,
                            0,  // offsets that are wrong were refused
                            totals.sums.undefined};
  std::copy_n(found, 7, static_cast<int64_t*>(counts.mutable_data_ptr()));
  return {loss, weight, difficulty, utterance_loss, confidence, spread, gradient, counts, sums};
}

}  // namespace spcl
