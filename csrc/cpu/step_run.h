#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "cpu/self_paced_step.h"

// A whole batch of `self_paced_step`, range by range. What shares the ranges out over threads is the caller's.

namespace spcl {

// Dialogues are taken together until they hold this many utterances: what a range touches fits in the L2 cache.
inline constexpr int64_t kStepRangeRows = 1024;
// Below this many utterances waking the threads costs more than they save.
inline constexpr int64_t kStepSerialRows = 4096;

/// The work of one task: whole dialogues [first, last), or the rows [begin, end) of the long dialogue `first`.
struct StepRange {
  int64_t first, last, begin, end;
  bool is_part;
};

/// Cuts the batch where its offsets say, never where the number of threads would.
inline std::vector<StepRange> step_ranges(const std::vector<int64_t>& offsets) {
  const auto dialogues = static_cast<int64_t>(offsets.size()) - 1;
  const auto at = [&](int64_t d) { return offsets[static_cast<size_t>(d)]; };
  std::vector<StepRange> ranges;
  for (int64_t d = 0; d < dialogues;) {
    if (at(d + 1) - at(d) > kStepRows) {
      for (int64_t begin = at(d); begin < at(d + 1); begin += kStepRows) {
        ranges.push_back({d, d + 1, begin, std::min(begin + kStepRows, at(d + 1)), true});
      }
      ++d;
      continue;
    }
    int64_t last = d + 1;
    while (last < dialogues && at(last + 1) - at(d) <= kStepRangeRows) ++last;
    ranges.push_back({d, last, at(d), at(last), false});
    d = last;
  }
  return ranges;
}

/// Scratch memory of one thread: 64-byte vectors, each as many doubles or rows as the batch needs.
class StepScratch {
 public:
  StepScratch(const StepBatch& batch, int64_t rows)
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

/// Runs a batch: `work_[k]` belongs to range k, so that the sums do not depend on the threads.
///
/// `Parallel` is called with a number of tasks and `body(begin, end)`, to be called for parts of [0, tasks).
template <class Parallel>
class StepRun {
 public:
  StepRun(const StepBatch& batch, const std::vector<int64_t>& offsets, const Parallel& parallel)
      : batch_(batch), offsets_(offsets), parallel_(parallel), ranges_(step_ranges(offsets)), work_(ranges_.size()) {
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

  /// How many utterances are scored unless a logit is at fault.
  int64_t candidates() {
    std::vector<int64_t> found(ranges_.size());
    for_ranges([&](const StepRange& range, StepWork& work) {
      found[static_cast<size_t>(&range - ranges_.data())] =
          step_candidates(batch_, range.begin, range.end, work.labels);
    });
    int64_t total = 0;
    for (const int64_t n : found) total += n;
    return total;
  }

  /// Everything but a gradient's scale. The arrays of `totals` have one entry a modality.
  void step(StepWork& totals) {
    std::ranges::fill(doubles_, 0.0);
    for (StepWork& work : work_) work.sums = {};
    for_ranges([&](const StepRange& range, StepWork& work) {
      if (range.is_part) {
        step_score_part(batch_, range.begin, range.end, work);
      } else {
        step_dialogues(batch_, offsets_.data(), range.first, range.last, work);
      }
    });
    if (has_parts_) {
      spread_of_parts();
      for_ranges([&](const StepRange& range, StepWork& work) {
        if (range.is_part) step_weigh_part(batch_, range.first, range.begin, range.end, work);
      });
    }
    if (batch_.is_ranked()) {
      rank();
      for_ranges(
          [&](const StepRange& range, StepWork& work) { step_count_ranked(batch_, range.begin, range.end, work); });
    }
    totals.sums = {};
    std::fill_n(totals.confidence, batch_.modalities, 0.0);
    std::fill_n(totals.selected_confidence, batch_.modalities, 0.0);
    for (const StepWork& work : work_) add(work, totals);
  }

 private:
  /// Calls `task(range, work)` for every range.
  template <class Task>
  void for_ranges(const Task& task) {
    const auto body = [&](int64_t begin, int64_t end) {
      const StepScratch scratch(batch_, longest_);
      for (int64_t k = begin; k < end; ++k) {
        scratch.lend_to(work_[static_cast<size_t>(k)]);
        task(ranges_[static_cast<size_t>(k)], work_[static_cast<size_t>(k)]);
      }
    };
    const auto count = static_cast<int64_t>(ranges_.size());
    if (count <= 1 || batch_.utterances <= kStepSerialRows) return body(0, count);
    parallel_(count, body);
  }

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

  /// The weights that hang on ranks over the whole batch, from the difficulties.
  void rank() const {
    std::vector<int64_t> dialogue;
    Groups groups{batch_.labels.data, batch_.labels.type, batch_.labels.stride};
    if (batch_.groups_are_dialogues) {
      dialogue.resize(static_cast<size_t>(batch_.utterances));
      for (size_t d = 0; d + 1 < offsets_.size(); ++d) {
        std::fill(dialogue.begin() + offsets_[d], dialogue.begin() + offsets_[d + 1], static_cast<int64_t>(d));
      }
      groups = {reinterpret_cast<const char*>(dialogue.data()), IntegerType::kInt64, sizeof(int64_t)};
    }
    spld_weights(batch_.result, batch_.difficulty, batch_.weight, batch_.utterances, batch_.weighting, groups);
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
  const Parallel& parallel_;
  const std::vector<StepRange> ranges_;
  std::vector<StepWork> work_;
  std::vector<double> doubles_;
  std::vector<int64_t> known_;
  int64_t longest_ = 0;
  bool has_parts_ = false;
};

/// The logits, labels and flags of a batch, from what the checks of a call give; `modalities` outlives the batch.
template <class Rows, class Present>
StepBatch step_batch(const Rows& logits, const LabelRows& labels, const Present& present,
                     std::vector<FloatRows>& modalities) {
  modalities.resize(static_cast<size_t>(logits.modalities));
  for (int64_t m = 0; m < logits.modalities; ++m) modalities[static_cast<size_t>(m)] = logits.modality(m);
  StepBatch batch{};
  batch.logits = modalities.data();
  batch.modalities = logits.modalities;
  batch.utterances = logits.utterances;
  batch.result = logits.type == FloatType::kFloat64 ? FloatType::kFloat64 : FloatType::kFloat32;
  batch.labels = labels;
  batch.present = present.data;
  batch.present_modality_stride = present.modality_stride;
  batch.present_stride = present.stride;
  batch.class_weight_sum = static_cast<double>(logits.columns);
  batch.gradient_scale = 1;
  return batch;
}

/// Takes the class weights `given`, one for each class, which `weights` holds for the batch.
inline Fault take_class_weight(const FloatRows& given, std::vector<double>& weights, StepBatch& batch) {
  weights.resize(static_cast<size_t>(batch.labels.num_classes));
  batch.class_weight = weights.data();
  batch.class_weight_sum = 0;
  for (size_t c = 0; c < weights.size(); ++c) {
    weights[c] = load_float(given.type, given.data + static_cast<int64_t>(c) * given.row_stride);
    if (!(weights[c] >= 0 && weights[c] - weights[c] == 0)) {
      return {"class_weight must be finite and at least 0",
              std::to_string(weights[c]) + " for class " + std::to_string(c)};
    }
    batch.class_weight_sum += weights[c];
  }
  return {};
}

/// The loss of a batch: the weighted losses over the sum of the weights or the number of the scored.
inline double step_norm(const StepSums& sums, bool divides_by_weight) {
  return divides_by_weight ? sums.weight : static_cast<double>(sums.scored);
}
inline double step_loss(const StepSums& sums, bool divides_by_weight) {
  const double norm = step_norm(sums, divides_by_weight);
  return sums.weighted_loss / (norm > 0 ? norm : 1);
}

}  // namespace spcl
