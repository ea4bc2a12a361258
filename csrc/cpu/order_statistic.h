#pragma once

#include <cstdint>
#include <functional>

#include "cpu/difficulty_quantile.h"
#include "cpu/dtypes.h"

namespace spcl {

/// Calls body(begin, end) for parts that together are [0, count), none smaller than `grain` but one: at once on
/// several threads, or one after the other.
using ForParts = std::function<void(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body)>;

/// Calls body(0, count) in the calling thread.
void serially(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

/// How `count` values lie about a window; with `are_integers` int64 values, whatever their `type` says.
void count_all_keys(const FloatRows& values, bool are_integers, int64_t count, const KeyWindow& window,
                    const ForParts& for_parts, KeyCounts& total);

/// ceil(pace n) by the rule of math/rank_of_pace.h.
int64_t rank_at(double pace, int64_t n);

/// The ceil(pace n)-th smallest of n values that are not NaN.
struct OrderStatistic {
  int64_t known;         // n; with 0 there is no threshold, and every other field is 0
  uint64_t key;          // of the threshold (math/float_keys.h)
  int64_t ties;          // values equal to it
  int64_t easiest_ties;  // those of them that belong to the ceil(pace n) smallest
};

/// Finds it among `count` values: exactly, however the parts are cut.
///
/// A sample says between which keys the threshold may lie. Passes over all values count them about that window, the
/// first of them telling n too, and narrow it to one of its buckets until that holds one key or few values, which are
/// gathered. Where the sample misled, the counts show it, and the window becomes all that lies on the other side; so
/// the passes are few and come to an end, also while somebody writes to the values. Memory is 200 KB and at most 1 % of
/// the values beside.
OrderStatistic order_statistic(const FloatRows& values, int64_t count, double pace, const ForParts& for_parts);

/// Writes the number with this key to `value`; NaN without one.
void store_threshold(FloatType type, const OrderStatistic& threshold, void* value);

}  // namespace spcl
