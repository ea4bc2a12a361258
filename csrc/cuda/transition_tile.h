#pragma once

// Neighbouring rows of labels and speakers in shared memory, and what comes before a row in its chains.

#include "cuda/emotion_transitions.h"
#include "cuda/math.h"

namespace spcl {
namespace on_device {

/// What comes before a row: classes, -1 for none and after a cut.
struct Before {
  int own = -1, previous = -1;  // of its speaker, of anyone
  bool has_own = false, has_previous = false;
  bool is_other = false;  // the one before is by another speaker
  bool is_new = true;     // nothing that is scored is by this speaker

  /// Looks at a row further back, of class `c` by `who`; true when nothing further back matters.
  __device__ __forceinline__ bool look(int c, int64_t who, int64_t speaker, bool breaks) {
    if (c < 0 && !breaks) return false;
    if (!has_previous) {
      has_previous = true;
      previous = c;
      is_other = who != speaker || speaker == -1;
    }
    if (speaker == -1) return true;  // one of its own
    if (who != speaker) return false;
    if (!has_own) own = c;
    has_own = true;
    if (c >= 0) is_new = false;
    return c >= 0;
  }
};

/// Two numbers, 16 bytes.
struct alignas(16) IntegerPair {
  int64_t first, second;
};

template <int threads>
struct TransitionTile {
  /// One less than the threads' pairs hold: the first row may be the second of a pair.
  static constexpr int pairs = 2;
  static constexpr int rows = 2 * pairs * threads - 1;
  static constexpr int each = 2 * pairs;  // rows of a thread, `threads` apart

  int64_t speakers[rows + 1];
  int16_t classes[rows + 1];

  __device__ __forceinline__ void store_label(const TransitionsCall& call, int row, int64_t label) {
    const bool is_scored =
        static_cast<uint64_t>(label) < static_cast<uint64_t>(call.num_classes) && label != call.ignore_index;
    classes[row] = static_cast<int16_t>(is_scored ? label : -1);
  }

  /// Loads `count` rows from row `first` on; `whole`: labels and speakers are int64 without gaps.
  template <bool whole>
  __device__ __forceinline__ void load(const TransitionsCall& call, int64_t first, int count) {
    const int thread = static_cast<int>(threadIdx.x);
    if constexpr (whole) {
      const char* labels = call.labels.data + first * 8;
      const char* who = call.speakers.data + first * 8;
      const int label_phase = phase_of(labels), speaker_phase = phase_of(who);
      IntegerPair y[pairs], s[pairs];
#pragma unroll
      for (int k = 0; k < pairs; ++k) {
        y[k] = load_pair(labels, 2 * (thread + k * threads) - label_phase, count);
        s[k] = load_pair(who, 2 * (thread + k * threads) - speaker_phase, count);
      }
#pragma unroll
      for (int k = 0; k < pairs; ++k) {
        const int row = 2 * (thread + k * threads) - label_phase, other = row + label_phase - speaker_phase;
        if (row >= 0 && row < count) store_label(call, row, y[k].first);
        if (row + 1 < count) store_label(call, row + 1, y[k].second);
        if (other >= 0 && other < count) speakers[other] = s[k].first;
        if (other + 1 < count) speakers[other + 1] = s[k].second;
      }
    } else {
      int64_t y[each], s[each];
#pragma unroll
      for (int k = 0; k < each; ++k) {
        const int row = thread + k * threads;
        y[k] = row < count ? call.labels.at(first + row) : 0;
        s[k] = row < count ? call.speakers.at(first + row) : 0;
      }
#pragma unroll
      for (int k = 0; k < each; ++k) {
        const int row = thread + k * threads;
        if (row < count) store_label(call, row, y[k]);
        if (row < count) speakers[row] = s[k];
      }
    }
  }

  /// What is before `row` from row `lowest` of this tile on; true when nothing further back matters.
  __device__ __forceinline__ bool look_back(Before& before, int row, int lowest, int64_t speaker, bool breaks) const {
    for (int other = row - 1; other >= lowest; --other) {
      if (before.look(classes[other], speakers[other], speaker, breaks)) return true;
    }
    return false;
  }

 private:
  __device__ __forceinline__ static int phase_of(const char* first) {
    return static_cast<int>(reinterpret_cast<uintptr_t>(first) / 8 % 2);
  }
  __device__ __forceinline__ static IntegerPair load_pair(const char* data, int row, int count) {
    const auto* numbers = reinterpret_cast<const int64_t*>(data);
    if (row >= 0 && row + 1 < count) return *reinterpret_cast<const IntegerPair*>(numbers + row);
    return {row >= 0 && row < count ? numbers[row] : 0, row + 1 >= 0 && row + 1 < count ? numbers[row + 1] : 0};
  }
};

/// Looks on from row `top` back to row `first`, in memory: the lanes with `is_open` one after the other, the warp
/// together at 32 rows. Every lane takes part.
__device__ __forceinline__ void look_further_back(const TransitionsCall& call, Before& before, bool is_open,
                                                  int64_t speaker, int64_t first, int64_t top) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (unsigned open = __ballot_sync(kWholeWarp, is_open); open != 0; open &= open - 1) {
    const int leader = __ffs(static_cast<int>(open)) - 1;
    const int64_t wanted = __shfl_sync(kWholeWarp, speaker, leader);
    Before found;  // by all lanes alike
    found.has_own = __shfl_sync(kWholeWarp, before.has_own, leader);
    found.has_previous = __shfl_sync(kWholeWarp, before.has_previous, leader);
    found.own = __shfl_sync(kWholeWarp, before.own, leader);
    found.previous = __shfl_sync(kWholeWarp, before.previous, leader);
    found.is_other = __shfl_sync(kWholeWarp, before.is_other, leader);
    bool is_done = false;
    for (int64_t end = top; end > first && !is_done; end -= 32) {
      const int64_t row = end - 1 - lane;
      int c = -1;
      int64_t who = 0;
      if (row >= first) {
        bool is_bad;
        const Labels labels{call.labels, call.ignore_index, call.num_classes};
        c = labels.class_of(row, is_bad);
        who = call.speakers.at(row);
      }
      const bool in_chain = row >= first && (call.breaks || c >= 0), is_own = in_chain && who == wanted;
      unsigned rows = __ballot_sync(kWholeWarp, in_chain);
      if (found.has_previous) rows = __ballot_sync(kWholeWarp, is_own);
      while (rows != 0 && !is_done) {  // nearest first; those of others matter only while there is none before
        const int source = __ffs(static_cast<int>(rows)) - 1;
        rows &= rows - 1;
        const int its_class = __shfl_sync(kWholeWarp, c, source);
        const int64_t its_speaker = __shfl_sync(kWholeWarp, who, source);
        const bool had_previous = found.has_previous;
        is_done = found.look(its_class, its_speaker, wanted, call.breaks);
        if (!had_previous) rows &= __ballot_sync(kWholeWarp, is_own);
      }
    }
    if (lane == leader) before = found;
  }
}

}  // namespace on_device
}  // namespace spcl
