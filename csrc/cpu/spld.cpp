#include "math/spld.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/self_paced_weights.h"

namespace spcl {
namespace {

/// The groups of the difficulties that are not NaN, numbered from 0. Few in a narrow range, as class labels are, need
/// only a subtraction; any others are looked up among the sorted ones.
template <class Real>
class GroupNumbers {
 public:
  GroupNumbers(const Groups& groups, const Real* difficulty, int64_t count) : groups_(groups) {
    int64_t smallest = std::numeric_limits<int64_t>::max(), largest = std::numeric_limits<int64_t>::min();
    for (int64_t i = 0; i < count; ++i) {
      if (difficulty[i] != difficulty[i]) continue;
      smallest = std::min(smallest, group(i));
      largest = std::max(largest, group(i));
    }
    if (smallest > largest) return;
    smallest_ = smallest;
    const uint64_t width = static_cast<uint64_t>(largest) - static_cast<uint64_t>(smallest);
    if (width < static_cast<uint64_t>(count) + 1024) {
      size_ = static_cast<size_t>(width) + 1;
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      if (difficulty[i] == difficulty[i]) sorted_.push_back(group(i));
    }
    std::ranges::sort(sorted_);
    sorted_.erase(std::unique(sorted_.begin(), sorted_.end()), sorted_.end());
    size_ = sorted_.size();
  }

  size_t size() const { return size_; }

  /// The number of the group of difficulty i, which is not NaN.
  size_t operator()(int64_t i) const {
    if (sorted_.empty()) return static_cast<size_t>(group(i) - smallest_);
    return static_cast<size_t>(std::ranges::lower_bound(sorted_, group(i)) - sorted_.begin());
  }

 private:
  int64_t group(int64_t i) const { return load_integer(groups_.type, groups_.data + i * groups_.stride); }

  Groups groups_;
  int64_t smallest_ = 0;
  std::vector<int64_t> sorted_;
  size_t size_ = 0;
};

template <class Real>
struct Candidate {
  Real difficulty;
  int64_t index;

  bool operator<(const Candidate& other) const {
    return difficulty < other.difficulty || (difficulty == other.difficulty && index < other.index);
  }
};

/// Selects the candidates of one group, the first of which has rank `rank`, that lie below their bounds.
template <class Real>
void select(Candidate<Real>* first, Candidate<Real>* last, int64_t rank, const Weighting& weighting, Real* weight) {
  while (first < last) {
    Candidate<Real>* middle = first + (last - first) / 2;
    std::nth_element(first, middle, last);
    const double bound = spld_bound(weighting.threshold, weighting.parameter, rank + (middle - first));
    if (static_cast<double>(middle->difficulty) < bound) {
      for (const Candidate<Real>* chosen = first; chosen <= middle; ++chosen) weight[chosen->index] = Real{1};
      rank += middle + 1 - first;
      first = middle + 1;
    } else {
      last = middle;
    }
  }
}

template <class Real>
void spld_weights(const Real* difficulty, Real* weight, int64_t count, Weighting weighting, const Groups& groups) {
  // As in the other schemes, the threshold counts in the type of the difficulties.
  const Real threshold = static_cast<Real>(weighting.threshold);
  weighting.threshold = static_cast<double>(threshold);
  if (!(threshold > 0)) {
    std::fill_n(weight, count, Real{});
    return;
  }

  const GroupNumbers<Real> number(groups, difficulty, count);
  std::vector<int64_t> below(number.size());  // those of a group that every bound lets in
  for (int64_t i = 0; i < count; ++i) {
    const bool is_below = difficulty[i] < threshold;
    weight[i] = is_below ? Real{1} : Real{};
    if (is_below) ++below[number(i)];
  }
  std::vector<double> bound(number.size());  // of the first rank that is left, the highest one
  for (size_t g = 0; g < bound.size(); ++g) {
    bound[g] = spld_bound(weighting.threshold, weighting.parameter, below[g] + 1);
  }
  const auto is_candidate = [&](int64_t i) {
    return difficulty[i] >= threshold && static_cast<double>(difficulty[i]) < bound[number(i)];
  };

  std::vector<size_t> end(number.size());  // of a group's candidates, once they are all in their places
  for (int64_t i = 0; i < count; ++i) {
    if (is_candidate(i)) ++end[number(i)];
  }
  size_t total = 0;
  for (size_t& of_group : end) {
    const size_t own = of_group;
    of_group = total;
    total += own;
  }
  std::vector<Candidate<Real>> candidates(total);
  for (int64_t i = 0; i < count; ++i) {
    if (is_candidate(i)) candidates[end[number(i)]++] = {difficulty[i], i};
  }
  Candidate<Real>* first = candidates.data();
  for (size_t g = 0; g < end.size(); ++g) {
    Candidate<Real>* last = candidates.data() + end[g];
    select(first, last, below[g] + 1, weighting, weight);
    first = last;
  }
}

}  // namespace

void spld_weights(FloatType type, const void* difficulty, void* weight, int64_t count, const Weighting& weighting,
                  const Groups& groups) {
  if (type == FloatType::kFloat64) {
    return spld_weights(static_cast<const double*>(difficulty), static_cast<double*>(weight), count, weighting, groups);
  }
  spld_weights(static_cast<const float*>(difficulty), static_cast<float*>(weight), count, weighting, groups);
}

}  // namespace spcl
