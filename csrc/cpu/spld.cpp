#include "math/spld.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "cpu/self_paced_weights.h"

namespace spcl {
namespace {

constexpr int64_t kBlock = 1024;  // difficulties whose groups are read at a time

/// The groups of the difficulties that are not NaN, numbered from 0. Few in a narrow range, as class labels are, need
/// only a subtraction; any others are looked up among the sorted ones.
template <class Real>
class GroupNumbers {
 public:
  GroupNumbers(const Groups& groups, const Real* difficulty, int64_t count) : groups_(groups), difficulty_(difficulty) {
    int64_t smallest = std::numeric_limits<int64_t>::max(), largest = std::numeric_limits<int64_t>::min();
    for_blocks(count, [&](int64_t begin, int64_t size, const int64_t* group) {
      for (int64_t i = 0; i < size; ++i) {
        const bool is_nan = difficulty[begin + i] != difficulty[begin + i];
        smallest = std::min(smallest, is_nan ? smallest : group[i]);
        largest = std::max(largest, is_nan ? largest : group[i]);
      }
    });
    if (smallest > largest) return;
    smallest_ = smallest;
    const uint64_t width = static_cast<uint64_t>(largest) - static_cast<uint64_t>(smallest);
    if (width < static_cast<uint64_t>(count) + 1024) {
      size_ = width + 1;
      return;
    }
    for_blocks(count, [&](int64_t begin, int64_t size, const int64_t* group) {
      for (int64_t i = 0; i < size; ++i) {
        if (difficulty[begin + i] == difficulty[begin + i]) sorted_.push_back(group[i]);
      }
    });
    std::ranges::sort(sorted_);
    sorted_.erase(std::unique(sorted_.begin(), sorted_.end()), sorted_.end());
    size_ = sorted_.size();
  }

  /// How many there are; at least one, for what has no group.
  size_t size() const { return std::max<size_t>(size_, 1); }

  /// Calls `take(begin, size, number)` with the numbers of the groups of a block; 0 where the difficulty is NaN.
  template <class Take>
  void for_numbers(int64_t count, const Take& take) const {
    for_blocks(count, [&](int64_t begin, int64_t size, int64_t* group) {
      const uint64_t last = this->size() - 1;  // nothing lies beyond, unless somebody writes to the groups meanwhile
      for (int64_t i = 0; i < size; ++i) {
        if (!sorted_.empty()) group[i] = std::ranges::lower_bound(sorted_, group[i]) - sorted_.begin();
        const bool is_nan = difficulty_[begin + i] != difficulty_[begin + i];
        const auto number = static_cast<uint64_t>(group[i]) - (sorted_.empty() ? static_cast<uint64_t>(smallest_) : 0);
        group[i] = is_nan ? 0 : static_cast<int64_t>(std::min(number, last));
      }
      take(begin, size, group);
    });
  }

 private:
  template <class Take>
  void for_blocks(int64_t count, const Take& take) const {
    int64_t group[kBlock];
    const bool is_plain = groups_.type == IntegerType::kInt64 && groups_.stride == sizeof(int64_t);
    for (int64_t begin = 0; begin < count; begin += kBlock) {
      const int64_t size = std::min(kBlock, count - begin);
      const char* data = groups_.data + begin * groups_.stride;
      if (is_plain) {
        std::memcpy(group, data, static_cast<size_t>(size) * sizeof(int64_t));
      } else {
        for (int64_t i = 0; i < size; ++i) group[i] = load_integer(groups_.type, data + i * groups_.stride);
      }
      take(begin, size, group);
    }
  }

  Groups groups_;
  const Real* difficulty_;
  int64_t smallest_ = 0;
  std::vector<int64_t> sorted_;
  size_t size_ = 0;
};

template <class Real>
struct Candidate {
  Real difficulty;
  int64_t index, group;

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
void spld_weights(const Real* difficulty, Real* weight, int64_t count, Weighting weighting, const Groups& given) {
  // As in the other schemes, the threshold counts in the type of the difficulties.
  const Real threshold = static_cast<Real>(weighting.threshold);
  weighting.threshold = static_cast<double>(threshold);
  if (!(threshold > 0)) {
    std::fill_n(weight, count, Real{});
    return;
  }

  const GroupNumbers<Real> groups(given, difficulty, count);
  std::vector<int64_t> below(groups.size());  // those of a group that every bound lets in
  groups.for_numbers(count, [&](int64_t begin, int64_t size, const int64_t* group) {
    for (int64_t i = 0; i < size; ++i) {
      const bool is_below = difficulty[begin + i] < threshold;
      weight[begin + i] = static_cast<Real>(is_below);
      below[static_cast<size_t>(group[i])] += is_below;
    }
  });
  std::vector<double> bound(groups.size());  // of the first rank that is left, the highest one
  for (size_t g = 0; g < bound.size(); ++g) {
    bound[g] = spld_bound(weighting.threshold, weighting.parameter, below[g] + 1);
  }

  std::vector<Candidate<Real>> candidates;
  std::vector<int64_t> end(groups.size());  // of the candidates of a group, once they are in order
  groups.for_numbers(count, [&](int64_t begin, int64_t size, const int64_t* group) {
    Candidate<Real> found[kBlock];
    int64_t num_found = 0;  // counted without a branch, which half of the difficulties would mislead
    for (int64_t i = 0; i < size; ++i) {
      const Real rho = difficulty[begin + i];
      found[num_found] = {rho, begin + i, group[i]};
      num_found += (rho >= threshold) & (static_cast<double>(rho) < bound[static_cast<size_t>(group[i])]);
    }
    for (int64_t k = 0; k < num_found; ++k) ++end[static_cast<size_t>(found[k].group)];
    candidates.insert(candidates.end(), found, found + num_found);
  });
  int64_t total = 0;
  for (int64_t& of_group : end) total += std::exchange(of_group, total);
  std::vector<Candidate<Real>> ordered(candidates.size());
  for (const Candidate<Real>& candidate : candidates) {
    ordered[static_cast<size_t>(end[static_cast<size_t>(candidate.group)]++)] = candidate;
  }
  Candidate<Real>* first = ordered.data();
  for (size_t g = 0; g < end.size(); ++g) {
    Candidate<Real>* last = ordered.data() + end[g];
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
