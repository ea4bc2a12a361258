#pragma once

// The offsets of a batch, which nobody on the host has looked at.

#include "cuda/inputs.h"

namespace spcl {

/// Offsets [dialogues + 1], read as their running maximum within [0, rows]. Up to kMostOwnRanges of them every block
/// mends for itself; more are looked through before, and copied where they are wrong.
struct RowRanges {
  static constexpr int64_t kMostOwnRanges = 256;

  Integers offsets;
  int64_t dialogues, rows;
  int64_t* mended;  // [dialogues + 1], written only where they are wrong
  unsigned* flags;  // whether they are wrong, and a ticket; 0 at first

  bool is_looked_through() const { return dialogues + 1 > kMostOwnRanges; }
  /// Of memory that `mended` and `flags` need, the latter first.
  int64_t bytes() const { return is_looked_through() ? 8 + 8 * (dialogues + 1) : 0; }

  __device__ __forceinline__ int64_t within(int64_t index) const {
    const int64_t offset = offsets.at(index);
    return offset < 0 ? 0 : offset > rows ? rows : offset;
  }
};

/// Looks through the offsets, where that is needed. One launch at most.
void look_through_ranges(const RowRanges& ranges, cudaStream_t stream);

}  // namespace spcl
