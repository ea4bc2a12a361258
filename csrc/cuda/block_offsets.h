#pragma once

// Offsets as the blocks of a kernel read them, see cuda/dialogue_offsets.h.

#include "cuda/dialogue_offsets.h"
#include "cuda/reduce.h"

namespace spcl {
namespace on_device {

/// The largest value up to each thread of a block; what `parts` held before is no longer needed.
template <int threads>
__device__ __forceinline__ int64_t running_maximum(int64_t value, int64_t* parts) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  for (int by = 1; by < 32; by *= 2) {
    const int64_t before = __shfl_up_sync(kWholeWarp, value, by);
    if (lane >= by && before > value) value = before;
  }
  if (lane == 31) parts[warp] = value;
  __syncthreads();
  for (int w = 0; w < warp; ++w) value = parts[w] > value ? parts[w] : value;
  return value;
}

/// What a block knows of the offsets. All its threads make one together.
class BlockOffsets {
 public:
  /// Rows [first, last) of one dialogue.
  struct Rows {
    int64_t first, last;
  };

  __device__ __forceinline__ explicit BlockOffsets(const DialogueOffsets& offsets) : offsets_(offsets) {
    using Marks = int64_t[kThreads];
    using Parts = int64_t[kThreads / 32];
    SPCL_SHARED(Marks, marks);
    SPCL_SHARED(Parts, parts);
    marks_ = marks;
    const int thread = static_cast<int>(threadIdx.x);
    int64_t value = 0;
    if (offsets.chunks == nullptr) {
      if (thread < offsets.count()) {
        raw_ = offsets.values.at(thread);
        value = offsets.within(raw_);
      }
    } else if (thread < offsets.num_chunks()) {
      const OffsetsChunk chunk = offsets.chunks[thread];
      raw_ = chunk.first;
      value = chunk.largest;
      is_faulty_ = chunk.is_faulty != 0;
    }
    marks[thread] = running_maximum<kThreads>(value, parts);
    __syncthreads();
  }

  /// Offset `d`, of 0 to dialogues.
  __device__ __forceinline__ int64_t at(int64_t d) const {
    if (offsets_.chunks == nullptr) return marks_[d];
    const int64_t own = offsets_.cleaned[d], before = before_chunk(d >> offsets_.chunk_bits);
    return own > before ? own : before;
  }

  /// The number of offsets below `row` among the first `dialogues`. Every lane of the warp takes part.
  __device__ __forceinline__ int64_t dialogues_before(int64_t row) const {
    const int64_t lane = threadIdx.x % 32;
    int64_t low = 0, high = offsets_.dialogues;
    while (low < high) {
      const int64_t step = parts_of(high - low, 32), probe = low + lane * step;
      const int below = __popc(__ballot_sync(kWholeWarp, probe < high && at(probe) < row));
      high = low + below * step < high ? low + below * step : high;
      low = below == 0 ? high : low + (below - 1) * step + 1;
    }
    return low;
  }

  /// The rows of the dialogue that a row is in; none where it is in no dialogue.
  __device__ __forceinline__ Rows dialogue_of(int64_t row) const {
    int64_t low = 0, high = offsets_.count();  // how many offsets are at most `row`
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (at(middle) <= row) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low == 0 || low == offsets_.count()) return {row, row};
    return {at(low - 1), at(low)};
  }

  /// How many offsets are not what they are in a batch without faults, of the part that falls to this thread of the
  /// grid. Every thread takes part.
  __device__ __forceinline__ unsigned count_faults() const {
    const int64_t thread = threadIdx.x;
    if (offsets_.chunks == nullptr) {
      const bool mine = blockIdx.x == 0 && thread < offsets_.count();
      return mine && raw_ != expected(thread);
    }
    bool wrong = false;
    if (thread < offsets_.num_chunks()) {
      const bool is_last = thread == offsets_.num_chunks() - 1;
      wrong = is_faulty_ || raw_ < before_chunk(thread) || (thread == 0 && raw_ != 0) ||
              (is_last && marks_[thread] != offsets_.rows);
    }
    if (!__syncthreads_or(wrong)) return 0;
    unsigned faults = 0;
    const int64_t threads = int64_t{gridDim.x} * kThreads;
    for (int64_t d = int64_t{blockIdx.x} * kThreads + thread; d < offsets_.count(); d += threads) {
      faults += offsets_.values.at(d) != expected(d);
    }
    return faults;
  }

 private:
  static constexpr int kThreads = DialogueOffsets::kThreads;

  __device__ __forceinline__ int64_t before_chunk(int64_t chunk) const { return chunk == 0 ? 0 : marks_[chunk - 1]; }
  __device__ __forceinline__ int64_t expected(int64_t d) const {
    return d == offsets_.dialogues ? offsets_.rows : (d == 0 ? 0 : at(d));
  }

  const DialogueOffsets& offsets_;
  const int64_t* marks_;  // the offsets, or the largest up to the end of each chunk
  // What this thread has read: an offset as it was, or a chunk.
  int64_t raw_ = 0;
  bool is_faulty_ = false;
};

}  // namespace on_device
}  // namespace spcl
