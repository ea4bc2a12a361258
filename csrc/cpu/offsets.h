#pragma once

#include <cstdint>
#include <vector>

#include "cpu/dtypes.h"
#include "cpu/fault.h"

namespace spcl {

/// Reads offsets [D + 1] into `values`, which has their size: from 0 to `utterances`, never falling.
Fault read_offsets(IntegerType type, const char* data, int64_t stride, int64_t utterances,
                   std::vector<int64_t>& values);

}  // namespace spcl
