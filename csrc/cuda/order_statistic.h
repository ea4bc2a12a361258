#pragma once

#include "cuda/inputs.h"
#include "math/key_digits.h"

namespace spcl {

/// A pace: a number in (0, 1], or any one of any floating point type on the device.
struct DevicePace {
  double number;
  Numbers on_device;  // no data: `number` counts

  __device__ __forceinline__ double value() const { return on_device.data == nullptr ? number : on_device.at(0); }
};

/// Difficulties [count] to rank, and the fraction of them that is taken.
struct Ranking {
  Numbers values;
  int64_t count;
  DevicePace pace;
};

/// What is known of the threshold, on the device. At the end its `rank` is how many of the values equal to it are
/// taken, and `equal` how many there are.
struct Threshold {
  unsigned long long key;  // the leading digits that are found, of a key of math/float_keys.h
  long long known;         // values that are not NaN; 0: there is no threshold, or nothing is to be taken
  long long rank, equal;   // among the values whose key begins like this: the threshold's rank from 1, and how many
  long long cut, left;     // select_easiest: the chunk of the last tie that is taken, and how many are in it
  unsigned ticket;
};

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
