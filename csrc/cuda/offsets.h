#pragma once

// The dialogues of a batch whose offsets only the device has seen: they are read as their running maximum, within
// [0, rows], so that no dialogue reaches outside the batch whatever they hold. See cuda/dialogues.h.

#include "cuda/inputs.h"

namespace spcl {

/// Entries that every block can put right for itself.
inline constexpr int kFewOffsets = 256;

/// Offsets [entries], and a copy that has been put right, where there are too many for a block.
struct Dialogues {
  Integers offsets;
  int64_t entries, rows;
  const int64_t* clean;  // nullptr: at most kFewOffsets
};

/// Bytes of the copy and of what it is made with; 0 where none is needed.
inline int64_t clean_offsets_bytes(int64_t entries) { return entries > kFewOffsets ? entries * 8 + 8 : 0; }

/// Makes the copy in `memory`, of which the last 8 bytes are 0. One launch, or none.
Dialogues clean_offsets_cuda(const Integers& offsets, int64_t entries, int64_t rows, void* memory, cudaStream_t stream);

}  // namespace spcl
