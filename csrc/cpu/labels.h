#pragma once

#include <cstdint>

#include "cpu/dtypes.h"

namespace spcl {

/// Labels [rows], and which of them name a class. The stride is in bytes, of any sign, and zero is allowed.
struct LabelRows {
  const char* data;
  IntegerType type;
  int64_t stride, ignore_index;
  int64_t num_classes;  // at most INT32_MAX
};

/// The labels of the rows [begin, end) as class numbers, -1 for what names none; returns how many are neither a class
/// nor `ignore_index`.
int64_t class_labels(const LabelRows& labels, int64_t begin, int64_t end, int32_t* classes);

}  // namespace spcl
