#pragma once

#include <cstdint>

#include "cpu/dtypes.h"
#include "cpu/speaker_labels.h"

namespace spcl {

/// A batch of whole dialogues. Strides are in bytes, of any sign, and zero is allowed.
struct TransitionsBatch {
  const char* labels;  // [utterances]
  IntegerType labels_type;
  int64_t labels_stride;
  const char* speakers;  // [utterances]
  IntegerType speakers_type;
  int64_t speakers_stride;
  const int64_t* offsets;  // [dialogues + 1], from 0 to `utterances`, never falling
  int64_t utterances, dialogues;

  int64_t num_classes;  // in [1, max_classes]
  int64_t ignore_index;
  bool breaks;             // an utterance that is not scored cuts the chains it stands in
  bool by_speaker;         // transitions are those of each speaker
  bool weighs_both;        // the difficulty's changes include those between speakers
  const double* changes;   // [num_classes^2 + 1] weights, see fill_changes; nullptr: changes are counted

  int64_t *same_speaker_shifts, *cross_speaker_shifts, *num_speakers;  // [dialogues]
  bool is_wide;       // the next two are double, else float
  void* difficulty;   // [dialogues]
  void* surprisal;    // [utterances]

  /// Where a surprisal is to be, its transition's number waits for the counts: 32 bits hold it.
  static constexpr int64_t max_classes = 1 << 15;

  int64_t transitions() const { return num_classes * num_classes; }  // i -> j has the number i num_classes + j
  int64_t none() const { return transitions(); }                     // the number of a chain's first utterance
  int64_t undefined() const { return transitions() + 1; }            // and of an utterance that is not scored
};

/// Where a thread counts. `counts` [num_classes^2 + 2] is its own, or [num_classes^2] for all when `is_shared`.
struct TransitionsWork {
  int64_t* counts;
  bool is_shared;
  SpeakerLabels speakers;
};

/// Writes all results of the dialogues [first, last) but the surprisal, of which it writes the numbers of the
/// transitions, and adds their counts.
void transitions_of_dialogues(const TransitionsBatch& batch, int64_t first, int64_t last, TransitionsWork& work);

/// What each transition counts in WES, 0 for those to the same class and for none: `changes` [num_classes^2 + 1].
void fill_changes(const FloatRows& similarity, int64_t num_classes, double* changes);

/// Surprisals by the number of the transition, [num_classes^2 + 2] floats or doubles as the batch has them.
/// `counts` [num_classes^2]; `from_class` [num_classes] are the sums of its rows.
void fill_surprisals(const TransitionsBatch& batch, const int64_t* counts, const double* from_class, void* surprisals);

/// Replaces the numbers of the transitions of the utterances [begin, end) by their surprisals: from the table that
/// fill_surprisals wrote, or computed one by one when there is none.
void surprisal_of_utterances(const TransitionsBatch& batch, const int64_t* counts, const double* from_class,
                             const void* surprisals, int64_t begin, int64_t end);

}  // namespace spcl
