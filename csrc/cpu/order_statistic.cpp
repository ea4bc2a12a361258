#include "cpu/order_statistic.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>

#include "cpu/key_types.h"
#include "math/rank_of_pace.h"

namespace spcl {
namespace {

constexpr int64_t kGrain = 1 << 15;        // values a thread takes at least
constexpr int64_t kFewKeys = 1 << 14;      // so few are gathered and looked at one by one
constexpr int64_t kSample = 1 << 10;       // values that say where the threshold may lie
constexpr int64_t kMostCounted = 1 << 30;  // the kernel counts in 32 bits
constexpr int64_t kGathered = 1 << 12;     // values a thread gathers from before it adds its keys to the others'

uint64_t largest_key(FloatType type) {
  return with_keys(type, []<class Keys>(Keys) { return uint64_t{Keys::largest}; });
}

/// Room for keys of one type, and for those that a kernel may write beyond.
class Keys {
 public:
  Keys(FloatType type, int64_t capacity)
      : bytes_(key_bytes(type)), room_(new uint64_t[static_cast<size_t>((capacity + kSpareKeys) * bytes_ / 8 + 1)]) {}

  void* from(int64_t index) { return reinterpret_cast<char*>(room_.get()) + index * bytes_; }

 private:
  int64_t bytes_;
  std::unique_ptr<uint64_t[]> room_;
};

/// The keys that a sample leaves likely for the threshold. Wherever they lie, counting tells whether it is there.
KeyWindow likely_window(const FloatRows& values, int64_t count, double pace, const KeyWindow& everything) {
  FloatRows sample = values;
  const int64_t step = (count / kSample - 1) | 1;  // odd, so that few periods of the data fit it
  sample.row_stride *= step;
  Keys keys(values.type, kSample), worked_in(values.type, kSample);
  const int64_t known = gather_keys(sample, 0, kSample, everything, keys.from(0));
  const double middle = pace * static_cast<double>(known);
  const double margin = 4 * std::sqrt(middle * (1 - pace)) + 4;  // four standard deviations of the rank
  const auto key_at = [&](double rank, uint64_t beyond) {
    if (rank < 1 || rank > static_cast<double>(known)) return beyond;
    std::memcpy(worked_in.from(0), keys.from(0), static_cast<size_t>(known * key_bytes(values.type)));
    return kth_key(values.type, worked_in.from(0), known, static_cast<int64_t>(rank)).key;
  };
  return KeyWindow::over(key_at(middle - margin, everything.first), key_at(middle + margin, everything.last));
}

/// Gathers at most `capacity` keys; more there are only where somebody writes to the values meanwhile.
int64_t gather_all(const FloatRows& values, int64_t count, const KeyWindow& window, const ForParts& for_parts,
                   int64_t capacity, Keys& keys) {
  if (count <= capacity) return gather_keys(values, 0, count, window, keys.from(0));
  std::mutex one_at_a_time;
  int64_t gathered = 0;
  for_parts(count, kGrain, [&](int64_t begin, int64_t end) {
    uint64_t own[kGathered + kSpareKeys];
    for (int64_t start = begin; start < end; start += kGathered) {
      const int64_t found = gather_keys(values, start, std::min(end, start + kGathered), window, own);
      if (found == 0) continue;
      const std::lock_guard lock(one_at_a_time);
      const int64_t kept = std::min(found, capacity - gathered);
      std::memcpy(keys.from(gathered), own, static_cast<size_t>(kept * key_bytes(values.type)));
      gathered += kept;
    }
  });
  return gathered;
}

}  // namespace

void serially(int64_t count, int64_t, const std::function<void(int64_t, int64_t)>& body) { body(0, count); }

void count_all_keys(const FloatRows& values, bool are_integers, int64_t count, const KeyWindow& window,
                    const ForParts& for_parts, KeyCounts& total) {
  const auto count_part = are_integers ? count_integers : count_keys;
  std::mutex one_at_a_time;
  total = {};
  for_parts(count, kGrain, [&](int64_t begin, int64_t end) {
    KeyCounts counts{};
    for (int64_t start = begin; start < end; start += kMostCounted) {
      count_part(values, start, std::min(end, start + kMostCounted), window, counts);
    }
    const std::lock_guard lock(one_at_a_time);
    total.add(counts);
  });
}

int64_t rank_at(double pace, int64_t n) { return rank_of_pace(pace, n); }

OrderStatistic order_statistic(const FloatRows& values, int64_t count, double pace, const ForParts& for_parts) {
  const KeyWindow everything = KeyWindow::over(0, largest_key(values.type));
  const int64_t capacity = std::max(kFewKeys, count / 1024);
  KeyWindow window = everything;
  OrderStatistic found{};
  int64_t rank = 0, below = 0, inside = count;  // of the window; its values are at most this many
  if (inside > capacity) window = likely_window(values, count, pace, everything);
  for (bool is_guess = true; inside > capacity; is_guess = false) {
    KeyCounts counts;
    count_all_keys(values, false, count, window, for_parts, counts);
    found.known = counts.known;
    if (counts.known == 0) return found;
    rank = rank_at(pace, counts.known);
    if (is_guess && rank <= counts.below) {
      window = KeyWindow::over(everything.first, window.first - 1);
      continue;
    }
    if (is_guess && rank > counts.below + counts.all_inside()) {
      window = KeyWindow::over(window.last + 1, everything.last);
      continue;
    }
    int64_t bucket = 0;
    below = counts.below;
    while (bucket < KeyWindow::buckets - 1 && below + counts.inside[bucket] < rank) below += counts.inside[bucket++];
    inside = counts.inside[bucket];
    const bool is_one_key = window.shift == 0;
    window = window.bucket(bucket);
    if (is_one_key) {
      found.key = window.first;
      found.ties = inside;
      found.easiest_ties = rank - below;
      return found;
    }
  }
  Keys keys(values.type, inside);
  const int64_t gathered = gather_all(values, count, window, for_parts, inside, keys);
  if (found.known == 0) {
    found.known = gathered;
    rank = rank_at(pace, gathered);
  }
  if (gathered == 0) return {};
  const KeyRank threshold =
      kth_key(values.type, keys.from(0), gathered, std::clamp<int64_t>(rank - below, 1, gathered));
  found.key = threshold.key;
  found.ties = threshold.equal;
  found.easiest_ties = rank - below - threshold.smaller;
  return found;
}

void store_threshold(FloatType type, const OrderStatistic& threshold, void* value) {
  with_keys(type, [&]<class Keys>(Keys) {
    const bool has_one = threshold.known > 0;
    const auto bits = Keys::bits(has_one ? static_cast<typename Keys::Key>(threshold.key) : Keys::nan);
    std::memcpy(value, &bits, sizeof bits);
  });
}

}  // namespace spcl
