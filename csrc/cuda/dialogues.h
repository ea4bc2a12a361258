#pragma once

// The dialogue of a row, in a kernel.

#include "cuda/offsets.h"
#include "cuda/reduce.h"

namespace spcl {
namespace on_device {

/// Offset `index`, within [0, rows].
__device__ __forceinline__ int64_t clamped_offset(const Dialogues& dialogues, int64_t index) {
  const int64_t offset = dialogues.offsets.at(index);
  return offset < 0 ? 0 : (offset > dialogues.rows ? dialogues.rows : offset);
}

/// The maximum of this thread's value and those of all threads before it in the block. Every thread takes part.
template <int threads>
__device__ __forceinline__ int64_t running_maximum(int64_t value) {
  using Parts = int64_t[threads / 32];
  SPCL_SHARED(Parts, parts);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  for (int by = 1; by < 32; by *= 2) {
    const int64_t before = __shfl_up_sync(kWholeWarp, value, by);
    value = before > value ? before : value;
  }
  if (lane == 31) parts[warp] = value;
  __syncthreads();
  for (int k = 0; k < warp; ++k) value = parts[k] > value ? parts[k] : value;
  return value;
}

/// The offsets put right, for a block of kFewOffsets threads, all of which take part; `few` is shared memory.
__device__ __forceinline__ const int64_t* offsets_of_block(const Dialogues& dialogues, int64_t* few) {
  if (dialogues.clean != nullptr) return dialogues.clean;
  const int64_t index = threadIdx.x;
  // Past the last entry: the last one, which changes no maximum before it.
  const int64_t last = dialogues.entries - 1;
  few[index] = running_maximum<kFewOffsets>(clamped_offset(dialogues, index < last ? index : last));
  __syncthreads();
  return few;
}

/// Rows [first, last) of one dialogue.
struct RowRange {
  int64_t first, last;
};

/// The dialogue of a row; no rows where it is in none. `offsets` never fall.
__device__ __forceinline__ RowRange dialogue_of(const int64_t* offsets, int64_t entries, int64_t row) {
  int64_t low = 0, high = entries;  // how many entries are at most `row`
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (offsets[middle] <= row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0 || low == entries) return {row, row};
  return {offsets[low - 1], offsets[low]};
}

}  // namespace on_device
}  // namespace spcl
