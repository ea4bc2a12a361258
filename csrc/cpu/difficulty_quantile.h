#pragma once

#include <cstdint>

#include "cpu/dtypes.h"

namespace spcl {

/// Keys (math/float_keys.h) from `first` to `last`, both included, in buckets of 2^shift.
struct KeyWindow {
  static constexpr int64_t buckets = 2048;

  uint64_t first, last;
  int shift;

  /// The narrowest buckets that cover the keys from `first` to `last`.
  static KeyWindow over(uint64_t first, uint64_t last);

  /// The keys of one bucket.
  KeyWindow bucket(int64_t index) const;
};

/// How the values of a range lie about a window. Counts of ranges add up, over threads and over processes.
struct KeyCounts {
  int64_t known, below;  // values that are not NaN; those of them below the window
  int64_t inside[KeyWindow::buckets];

  void add(const KeyCounts& other);
  int64_t all_inside() const;
};

/// A key, how many of the keys it was found among are smaller, and how many are equal to it.
struct KeyRank {
  uint64_t key;
  int64_t smaller, equal;
};

/// Bytes of a key of numbers of this type.
inline int64_t key_bytes(FloatType type) { return type == FloatType::kFloat64 ? 8 : 4; }

/// Keys that a kernel may write beyond those it returns.
inline constexpr int64_t kSpareKeys = 16;

/// Counts the values [begin, end).
void count_keys(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, KeyCounts& counts);

/// The same of int64 values, whatever their `type` says; 2^63 - 1 is not counted.
void count_integers(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, KeyCounts& counts);

/// Writes the keys of the values [begin, end) that lie in the window, and returns their number; `keys` holds
/// end - begin + kSpareKeys of them.
int64_t gather_keys(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, void* keys);

/// The smallest key but `rank` - 1 of `count` >= rank >= 1; `keys`, with kSpareKeys after them, are worked in.
KeyRank kth_key(FloatType type, void* keys, int64_t count, int64_t rank);

}  // namespace spcl
