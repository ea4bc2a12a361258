#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <vector>

#include "cpu/emotion_transitions.h"

namespace spcl {

/// Utterances a thread takes at a time; with no more than twice as many, one takes them all.
inline constexpr int64_t kTransitionsChunk = 4096;
/// The most classes of which every thread has counts of its own (a quarter of a megabyte), and of which the
/// surprisals of all transitions are computed before those of the utterances.
inline constexpr int64_t kClassesCountedApart = 181;
inline constexpr int64_t kClassesInTable = 64;

/// The whole op: `counts` [num_classes^2] are those of this batch; the surprisal is over `fitted` where it is given.
/// `parallel_for(chunks, body)` calls `body(begin, end)` on ranges that make [0, chunks). Counts are integers and a
/// dialogue is one thread's, so nothing depends on the ranges.
template <class ParallelFor>
void run_transitions(const TransitionsBatch& batch, const int64_t* fitted, int64_t* counts,
                     const ParallelFor& parallel_for) {
  const int64_t C = batch.num_classes, T = batch.utterances, transitions = C * C;
  const auto numbers = static_cast<size_t>(TransitionNumbers(C).count());
  const int64_t chunks = T <= 2 * kTransitionsChunk ? 1 : (T + kTransitionsChunk - 1) / kTransitionsChunk;
  // A dialogue is of the chunk that its first utterance is in.
  const auto first_dialogue = [&](int64_t chunk) {
    if (chunk == 0) return int64_t{0};
    if (chunk == chunks) return batch.dialogues;
    const int64_t* end = batch.offsets + batch.dialogues;
    return static_cast<int64_t>(std::lower_bound(batch.offsets, end, chunk * kTransitionsChunk) - batch.offsets);
  };
  std::fill_n(counts, transitions, int64_t{0});
  std::mutex adding;
  parallel_for(chunks, [&](int64_t begin, int64_t end) {
    TransitionsWork work{counts, C > kClassesCountedApart, {}};
    std::vector<int64_t> own(work.is_shared ? 0 : numbers);
    if (!work.is_shared) work.counts = own.data();
    transitions_of_dialogues(batch, first_dialogue(begin), first_dialogue(end), work);
    if (work.is_shared) return;
    const std::lock_guard<std::mutex> lock(adding);
    for (int64_t k = 0; k < transitions; ++k) counts[k] += own[static_cast<size_t>(k)];
  });

  const int64_t* over = fitted != nullptr ? fitted : counts;
  std::vector<double> from_class(static_cast<size_t>(C));
  for (int64_t k = 0; k < transitions; ++k) from_class[static_cast<size_t>(k / C)] += static_cast<double>(over[k]);
  const bool has_table = C <= kClassesInTable && transitions <= T;
  std::vector<double> table(has_table ? numbers : 0);  // room for floats too
  if (has_table) fill_surprisals(batch, over, from_class.data(), table.data());
  parallel_for(chunks, [&](int64_t begin, int64_t end) {
    const int64_t last = end == chunks ? T : end * kTransitionsChunk;
    surprisal_of_utterances(batch, over, from_class.data(), has_table ? table.data() : nullptr,
                            begin * kTransitionsChunk, last);
  });
}

}  // namespace spcl
