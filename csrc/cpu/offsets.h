#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/dtypes.h"

namespace spcl {

/// What is wrong with offsets, in the words of an error; an empty rule: nothing.
struct OffsetsFault {
  std::string rule, got;
};

/// Reads offsets [D + 1] into `values`, which has their size: from 0 to `utterances`, never falling.
OffsetsFault read_offsets(IntegerType type, const char* data, int64_t stride, int64_t utterances,
                          std::vector<int64_t>& values);

}  // namespace spcl
