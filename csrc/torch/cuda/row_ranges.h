#pragma once

#include "cuda/row_ranges.h"
#include "torch/cuda/device_call.h"

namespace spcl {

/// The ranges of a call before they have memory.
inline RowRanges row_ranges_of(const char* op, const Tensor& offsets, int64_t rows) {
  return {offsets_of(op, offsets), offsets.size(0) - 1, rows, nullptr, nullptr};
}

/// Gives the ranges their memory, ranges.bytes() of it.
inline void use_memory(const DeviceCall& call, RowRanges& ranges, char* memory) {
  if (!ranges.is_looked_through()) return;
  ranges.flags = reinterpret_cast<unsigned*>(memory);
  ranges.mended = reinterpret_cast<int64_t*>(memory + 8);
  call.zero(memory, 8);
}

}  // namespace spcl
