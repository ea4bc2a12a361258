#pragma once

#include <cstdint>

#include "cpu/order_statistic.h"

namespace spcl {

/// Writes a byte for each of `count` values: 1 for the ceil(pace n) smallest of the n that are not NaN, of equal ones
/// the first; 0 for the others.
void select_easiest(const FloatRows& values, int64_t count, double pace, const ForParts& for_parts, char* selected);

}  // namespace spcl
