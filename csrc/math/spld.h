// The bound of SPLD; every kernel, on every device, goes through it.

#pragma once

#include <cstdint>

#include "math/portable.h"

namespace spcl {

/// What the difficulty of rank r (from 1) in its group must lie below: lambda + gamma / (sqrt r + sqrt(r - 1)).
SPCL_HD double spld_bound(double threshold, double gamma, int64_t rank) {
  const double r = static_cast<double>(rank);
  return threshold + gamma / (__builtin_sqrt(r) + __builtin_sqrt(r - 1));
}

}  // namespace spcl
