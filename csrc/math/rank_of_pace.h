#pragma once

// How many of n values a pace stands for.

#include <cstdint>

#include "math/portable.h"

namespace spcl {

/// ceil(pace n) for 0 < pace <= 1: at least 1, and 0 for n = 0. More than 1 counts as 1; 0, less and NaN take nothing.
///
/// A product that differs from an integer by no more than the rounding of the pace and of the product counts as that
/// integer: 0.1 times 30 is 3, though the double nearest to 0.1 lies above it and the product is 3 + 2^-51.
SPCL_HD int64_t rank_of_pace(double pace, int64_t n) {
  if (!(pace > 0)) return 0;
  if (pace > 1) return n;
  const double product = rounded_product(pace, static_cast<double>(n));
  const double nearest = __builtin_floor(product + 0.5);
  const bool is_integer = __builtin_fabs(product - nearest) <= nearest * 0x1p-52;
  const auto rank = static_cast<int64_t>(is_integer ? nearest : __builtin_ceil(product));
  return rank < n ? rank : n;
}

}  // namespace spcl
