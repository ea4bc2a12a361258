#pragma once

// The spreads of a block's dialogues, from confidences that are numbers or NaN.
//
// Sixteen lanes share a dialogue and add in float64: value i goes to lane i % 16, and the lanes are added in the order
// of csrc/cpu/sum16.h. So a spread is the same bits wherever its dialogue lies, and two dialogues are a warp's. The
// warp sums several pairs before its lanes work out their spreads, a dialogue a lane: that has divisions and a root.

#include "cuda/math.h"
#include "cuda/reduce.h"

namespace spcl {
namespace on_device {

inline constexpr int kSpreadLanes = 16;
/// Modalities that are summed side by side.
inline constexpr int kSpreadModalities = 4;

/// Shared memory of a block for `slots` dialogues of each warp.
struct SpreadSlots {
  char* memory;
  int slots;  // even, at most 32
  int64_t modalities;

  SPCL_HD static int64_t bytes(int warps, int slots, int64_t modalities) {
    return int64_t{warps} * slots * (2 * modalities + 1) * 8;
  }
  __device__ __forceinline__ double* sums(int warp, int slot) const {
    return reinterpret_cast<double*>(memory) + (int64_t{warp} * slots + slot) * (2 * modalities + 1);
  }
  /// How many confidences each modality has, and last how many utterances are scored.
  __device__ __forceinline__ int64_t* counts(int warp, int slot) const {
    return reinterpret_cast<int64_t*>(sums(warp, slot) + modalities);
  }
};

/// Works out the spreads of `count` dialogues with all threads of the block.
///
/// `bounds(j, begin, end)` gives the rows of dialogue j, `value(m, row)` a confidence or NaN, and `write(j, begin, end,
/// part, spread)` is called by its 16 lanes with their number. Whether a row counts is `is_scored(row)` where
/// modalities can be missing, else whether its confidences are numbers.
template <class Real, int warps, class Bounds, class Value, class Scored, class Write>
__device__ __forceinline__ void spread_dialogues(const SpreadSlots& slots, int count, bool can_be_missing,
                                                 bool of_means, Bounds bounds, Value value, Scored is_scored,
                                                 Write write) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int half = lane / kSpreadLanes, part = lane % kSpreadLanes;
  const auto plus = [](auto a, auto b) { return a + b; };
#pragma unroll 1
  for (int base = 2 * warp; base < count; base += warps * slots.slots) {
    __syncwarp();  // behind exchanges: what the slots held has been read
#pragma unroll 1
    for (int k = 0; k < slots.slots && base + warps * k < count; k += 2) {
      const int j = base + warps * k + half;
      int64_t begin = 0, end = 0;
      if (j < count) bounds(j, begin, end);
      double* sums = slots.sums(warp, k + half);
      int64_t* counts = slots.counts(warp, k + half);
      int64_t scored = 0;
      if (can_be_missing) {
#pragma unroll 1
        for (int64_t row = begin + part; row < end; row += kSpreadLanes) scored += is_scored(row);
        scored = over_lanes<kSpreadLanes>(scored, plus);
      }
#pragma unroll 1
      for (int64_t first = 0; first < slots.modalities; first += kSpreadModalities) {
        double sum[kSpreadModalities] = {};
        unsigned known[kSpreadModalities] = {};  // of one lane
#pragma unroll 2
        for (int64_t row = begin + part; row < end; row += kSpreadLanes) {
#pragma unroll
          for (int i = 0; i < kSpreadModalities; ++i) {
            if (first + i >= slots.modalities) continue;
            const Real p = value(first + i, row);
            sum[i] += p == p ? static_cast<double>(p) : 0.0;
            known[i] += p == p;
          }
        }
        if (!can_be_missing && first == 0) scored = over_lanes<kSpreadLanes>(int64_t{known[0]}, plus);
#pragma unroll
        for (int i = 0; i < kSpreadModalities; ++i) {
          if (first + i >= slots.modalities) continue;
          sum[i] = over_lanes<kSpreadLanes>(sum[i], plus);
          int64_t count_of = scored;
          if (can_be_missing) count_of = over_lanes<kSpreadLanes>(int64_t{known[i]}, plus);
          if (part == 0) {
            sums[first + i] = sum[i];
            counts[first + i] = count_of;
          }
        }
      }
      if (part == 0) counts[slots.modalities] = scored;
    }
    __syncwarp();
    Real spread = nan_of<Real>();
    if (lane < slots.slots && base + warps * (lane - lane % 2) + lane % 2 < count) {
      const int64_t* counts = slots.counts(warp, lane);
      spread = static_cast<Real>(
          spread_of_dialogue(slots.sums(warp, lane), counts, slots.modalities, counts[slots.modalities], of_means));
    }
    for (int k = 0; k < slots.slots && base + warps * k < count; k += 2) {
      const int j = base + warps * k + half;
      const Real own = __shfl_sync(kWholeWarp, spread, k + half);
      int64_t begin = 0, end = 0;
      if (j < count) {
        bounds(j, begin, end);
        write(j, begin, end, part, own);
      }
    }
  }
}

}  // namespace on_device
}  // namespace spcl
