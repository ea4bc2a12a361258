#pragma once

#include <cstdint>

#include "cpu/order_statistic.h"
#include "math/key_digits.h"

namespace spcl {

/// Bits of a key of numbers of this type.
inline int key_bits(FloatType type) {
  const bool is_half = type == FloatType::kFloat16 || type == FloatType::kBFloat16;
  return is_half ? 16 : type == FloatType::kFloat32 ? 32 : 64;
}

/// Values to count by a digit of their keys, below the digits `prefix`.
struct HistogramInput {
  FloatRows values;
  bool are_integers;  // int64, whatever the type of `values` says
  int64_t count;
  Digit digit;

  int64_t buckets() const { return int64_t{1} << digit.bits; }
};

/// Writes how many values have each digit, among those that are not NaN and whose key begins with the prefix.
void difficulty_histogram(const HistogramInput& input, int64_t prefix, const ForParts& for_parts, int64_t* histogram);

}  // namespace spcl
