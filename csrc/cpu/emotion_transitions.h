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
  bool breaks;            // an utterance that is not scored cuts the chains it stands in
  bool by_speaker;        // transitions are those of each speaker
  bool weighs_both;       // the difficulty's changes include those between speakers
  const double* changes;  // a weight for each number, see fill_changes; nullptr: changes are counted

  int64_t *same_speaker_shifts, *cross_speaker_shifts, *num_speakers;  // [dialogues]
  bool is_wide;                                                        // the next two are double, else float
  void* difficulty;                                                    // [dialogues]
  void* surprisal;                                                     // [utterances]

  static constexpr int64_t max_classes = 1 << 15;  // 32 bits hold the numbers of transitions
};

/// Transition i -> j has the number i C + j. Where the surprisal of an utterance is to be, the number of its
/// transition waits for the counts.
class TransitionNumbers {
 public:
  explicit TransitionNumbers(int64_t num_classes) : classes_(static_cast<int32_t>(num_classes)) {}

  int32_t first() const { return classes_ * classes_; }         // + j: of the first utterance of a chain
  int32_t after_cut() const { return first() + classes_; }      // + j: of the first one after a cut
  int32_t undefined() const { return after_cut() + classes_; }  // of an utterance that is not scored
  int32_t count() const { return undefined() + 1; }

 private:
  int32_t classes_;
};

/// Where a thread counts: `counts` has all numbers and is its own, or those of transitions for all when `is_shared`.
struct TransitionsWork {
  int64_t* counts;
  bool is_shared;
  SpeakerLabels speakers;
};

/// Writes all results of the dialogues [first, last) but the surprisal, of which it writes the numbers of the
/// transitions, and adds their counts.
void transitions_of_dialogues(const TransitionsBatch& batch, int64_t first, int64_t last, TransitionsWork& work);

/// What each number counts in WES, 0 for those that are no change.
void fill_changes(const FloatRows& similarity, int64_t num_classes, double* changes);

/// The surprisal of each number, as float or double, whichever the batch has.
/// `counts` [num_classes^2]; `from_class` [num_classes] are the sums of its rows.
void fill_surprisals(const TransitionsBatch& batch, const int64_t* counts, const double* from_class, void* surprisals);

/// Replaces the numbers of the transitions of the utterances [begin, end) by their surprisals: from the table that
/// fill_surprisals wrote, or computed one by one when there is none.
void surprisal_of_utterances(const TransitionsBatch& batch, const int64_t* counts, const double* from_class,
                             const void* surprisals, int64_t begin, int64_t end);

}  // namespace spcl
