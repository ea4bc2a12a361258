#pragma once

// Offsets as the kernels read them: whatever they hold, each is taken as the largest up to it, within [0, T].
//
// Up to kThreads of them are read by every block for itself. More are cut into at most kThreads chunks, and a launch
// before copies each chunk, cleaned as if it were alone, and notes its largest: a block has to add only the largest of
// the chunks before.

#include "cuda/inputs.h"

namespace spcl {

struct OffsetsChunk {
  int64_t first, largest;  // within [0, T]
  int64_t is_faulty;       // falls somewhere, or leaves [0, T]
};

struct DialogueOffsets {
  static constexpr int kThreads = 256;  // of every block that reads offsets

  Integers values;
  int64_t dialogues, rows;
  int chunk_bits;        // a chunk has 2^chunk_bits offsets
  OffsetsChunk* chunks;  // nullptr: every block reads them all
  int64_t* cleaned;      // each chunk for itself

  SPCL_HD int64_t count() const { return dialogues + 1; }
  SPCL_HD int64_t num_chunks() const { return parts_of(count(), int64_t{1} << chunk_bits); }

  __device__ __forceinline__ int64_t within(int64_t offset) const {
    return offset < 0 ? 0 : (offset > rows ? rows : offset);
  }
};

/// Offsets of a batch of `rows` rows, and the workspace that they need.
DialogueOffsets dialogue_offsets(const Integers& values, int64_t dialogues, int64_t rows);
int64_t dialogue_offsets_bytes(const DialogueOffsets& offsets);

/// Makes them ready for blocks to read: one launch, or none where there are few of them.
void prepare_offsets_cuda(DialogueOffsets& offsets, void* workspace, cudaStream_t stream);

}  // namespace spcl
