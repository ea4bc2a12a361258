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
  static constexpr int pairs = 2;                       // that a thread loads of labels, and of speakers
  static constexpr int rows = 2 * pairs * threads - 1;  // the first one may be the second of a pair

  alignas(16) int64_t speakers[rows + 1];
  alignas(4) int16_t classes[rows + 1];

  /// Where the first row is in each of the two.
  struct Phases {
    int label = 0, speaker = 0;
  };

  __device__ __forceinline__ int class_at(int row, Phases phases) const { return classes[row + phases.label]; }
  __device__ __forceinline__ int64_t speaker_at(int row, Phases phases) const { return speakers[row + phases.speaker]; }

  /// What is before `row` from row `lowest` of the tile on; true when nothing further back matters. `breaks` known here
  /// leaves few instructions, and there are as many as a GPU can just hide behind its loads.
  template <bool breaks>
  __device__ __forceinline__ bool look_back(Before& before, int row, int lowest, Phases phases) const {
    const int64_t speaker = speaker_at(row, phases);
    int other = row - 1;
    while (!breaks && other >= lowest && class_at(other, phases) < 0) --other;
    if (other < lowest) return false;
    if (before.look(class_at(other, phases), speaker_at(other, phases), speaker, breaks)) return true;
    while (--other >= lowest) {
      if (speaker_at(other, phases) == speaker && before.look(class_at(other, phases), speaker, speaker, breaks)) {
        return true;
      }
    }
    return false;
  }

  /// Loads `count` rows from row `first` on; `whole`: labels and speakers are int64 without gaps.
  template <bool whole>
  __device__ __forceinline__ Phases load(const TransitionsCall& call, int64_t first, int count) {
    const int thread = static_cast<int>(threadIdx.x);
    // Pairs from an even address on, with a row of a neighbour where one is there.
    if (whole && first > 0 && first + count < call.offsets.rows) {
      const char *labels = call.labels.data + first * 8, *who = call.speakers.data + first * 8;
      const Phases phases{phase_of(labels), phase_of(who)};
      const auto* label_pairs = reinterpret_cast<const IntegerPair*>(labels - 8 * phases.label);
      const auto* speaker_pairs = reinterpret_cast<const IntegerPair*>(who - 8 * phases.speaker);
      IntegerPair y[pairs], s[pairs];
#pragma unroll
      for (int k = 0; k < pairs; ++k) {
        const int pair = thread + k * threads;
        y[k] = 2 * pair < count + phases.label ? label_pairs[pair] : IntegerPair{};
        s[k] = 2 * pair < count + phases.speaker ? speaker_pairs[pair] : IntegerPair{};
      }
#pragma unroll
      for (int k = 0; k < pairs; ++k) {
        const int pair = thread + k * threads;
        const uint32_t low = static_cast<uint16_t>(class_of(call, y[k].first));
        const uint32_t high = static_cast<uint16_t>(class_of(call, y[k].second));
        if (2 * pair < count + phases.label) reinterpret_cast<uint32_t*>(classes)[pair] = low | high << 16;
        if (2 * pair < count + phases.speaker) reinterpret_cast<IntegerPair*>(speakers)[pair] = s[k];
      }
      return phases;
    }
#pragma unroll
    for (int k = 0; k < 2 * pairs; ++k) {
      const int row = thread + k * threads;
      if (row >= count) break;
      if constexpr (whole) {
        classes[row] = class_of(call, reinterpret_cast<const int64_t*>(call.labels.data)[first + row]);
        speakers[row] = reinterpret_cast<const int64_t*>(call.speakers.data)[first + row];
      } else {
        classes[row] = class_of(call, call.labels.at(first + row));
        speakers[row] = call.speakers.at(first + row);
      }
    }
    return {};
  }

 private:
  __device__ __forceinline__ static int16_t class_of(const TransitionsCall& call, int64_t label) {
    const bool is_class = static_cast<uint64_t>(label) < static_cast<uint64_t>(call.num_classes);
    return static_cast<int16_t>(is_class && label != call.ignore_index ? label : -1);
  }
  __device__ __forceinline__ static int phase_of(const char* first) {
    return static_cast<int>(reinterpret_cast<uintptr_t>(first) / 8 % 2);
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
