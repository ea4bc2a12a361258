#pragma once

#include "cuda/inputs.h"

namespace spcl {

/// Difficulties [count] to rank, and the fraction of them that is taken.
struct Ranking {
  Numbers values;
  int64_t count;
  double pace;
};

/// What is known of the threshold, on the device. At the end its `rank` is how many of the values equal to it are
/// taken, and `equal` how many there are.
struct Threshold {
  unsigned long long key;  // the leading digits that are found, of a key of math/float_keys.h
  long long known;         // values that are not NaN; 0: there is no threshold
  long long rank, equal;   // among the values whose key begins like this: the threshold's rank from 1, and how many
  long long cut, left;     // select_easiest: the chunk of the last tie that is taken, and how many are in it
  unsigned ticket;
};

/// A digit of a key has up to 11 bits: as many counts as a block has room for, and few passes.
inline constexpr int kDigitBits = 11;
inline constexpr int kBuckets = 1 << kDigitBits;

/// Memory of the passes; 0 at first.
struct OrderWork {
  unsigned long long histogram[kBuckets];
  Threshold threshold;
};

/// So many values are one block's, in one launch.
inline constexpr int64_t kFewValues = 1 << 14;

/// Finds the threshold of more than kFewValues values and writes it as a number where `result` is not null. A launch
/// for each digit of a key: two for halves, three for float, six for double.
void order_statistic_cuda(const Ranking& ranking, OrderWork* work, void* result, cudaStream_t stream);

}  // namespace spcl
