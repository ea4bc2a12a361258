// The kernel, for the instruction set being compiled (see cpu/every_isa.h).

#include "math/emotion_transitions.h"

namespace spcl {
namespace SPCL_ISA {

/// Number `index` of int64s that lie beside one another: what nearly every caller has.
struct ContiguousIntegers {
  const char* data;
  SPCL_HD int64_t at(int64_t index) const { return load_as<int64_t>(data + index * 8); }
};

struct AnyIntegers {
  const char* data;
  IntegerType type;
  int64_t stride;
  SPCL_HD int64_t at(int64_t index) const { return load_integer(type, data + index * stride); }
};

/// Writes number `index` of an array of floats or doubles.
SPCL_HD void store_real(void* values, bool is_wide, int64_t index, double value) {
  if (is_wide) {
    static_cast<double*>(values)[index] = value;
  } else {
    static_cast<float*>(values)[index] = static_cast<float>(value);
  }
}

/// Counts one transition, which all other threads may be counting as well when the counts are shared.
SPCL_HD void count_transition(const TransitionsWork& work, int64_t transition, int64_t none) {
  if (!work.is_shared) {
    ++work.counts[transition];
  } else if (transition != none) {
    __atomic_fetch_add(work.counts + transition, 1, __ATOMIC_RELAXED);
  }
}

/// `Number` is an integer as wide as the surprisals.
///
/// Nothing that depends on a label or on a small speaker number is a branch: a processor cannot guess them.
template <class Number, bool weighs, class Integers>
void dialogue_transitions(const TransitionsBatch& batch, const Integers& labels, const Integers& speakers, int64_t d,
                          TransitionsWork& work) {
  constexpr int32_t unseen = SpeakerLabels::kUnseen, cut = SpeakerLabels::kCut;
  const int64_t C = batch.num_classes, none = batch.none(), ignore_index = batch.ignore_index;
  const bool by_speaker = batch.by_speaker;
  char* numbers = static_cast<char*>(batch.surprisal);
  for (int64_t k = 0; k < SpeakerLabels::kSmall; ++k) work.speakers.of_small[k] = unseen;

  int64_t utterances = 0, speakers_seen = 0, same = 0, cross = 0;
  double weight_same = 0, weight_cross = 0;
  int32_t previous = cut;
  int64_t previous_speaker = -1;
  for (int64_t t = batch.offsets[d]; t < batch.offsets[d + 1]; ++t) {
    const int64_t label = labels.at(t), speaker = speakers.at(t);
    int32_t nobody = unseen;  // an unknown speaker is one that was never heard before
    int32_t* slot = &nobody;
    if (static_cast<uint64_t>(speaker) < static_cast<uint64_t>(SpeakerLabels::kSmall)) {
      slot = work.speakers.of_small + speaker;
    } else if (speaker != -1) {
      slot = &work.speakers.of_other(speaker, d);
    }
    const bool is_scored = static_cast<uint64_t>(label) < static_cast<uint64_t>(C) && label != ignore_index;
    if (!is_scored) {
      const Number undefined = static_cast<Number>(batch.undefined());
      std::memcpy(numbers + t * static_cast<int64_t>(sizeof(Number)), &undefined, sizeof undefined);
      if (batch.breaks) {
        previous = cut;
        if (*slot != unseen) *slot = cut;
      }
      continue;
    }
    const int32_t y = static_cast<int32_t>(label), own = *slot;
    *slot = y;
    const int64_t from_own = own >= 0 ? own * C + y : none;
    const int64_t from_previous = previous >= 0 ? previous * C + y : none;
    const bool is_other = (speaker != previous_speaker) | (speaker == -1);
    const bool crosses = (previous >= 0) & is_other & (previous != y);
    same += (own >= 0) & (own != y);
    cross += crosses;
    speakers_seen += own == unseen;
    ++utterances;
    if constexpr (weighs) {
      weight_same += batch.changes[from_own];
      weight_cross += batch.changes[crosses ? from_previous : none];
    }
    const int64_t transition = by_speaker ? from_own : from_previous;
    const Number number = static_cast<Number>(transition);
    std::memcpy(numbers + t * static_cast<int64_t>(sizeof(Number)), &number, sizeof number);
    count_transition(work, transition, none);
    previous = y;
    previous_speaker = speaker;
  }
  double changes = static_cast<double>(same);
  if constexpr (weighs) changes = batch.weighs_both ? weight_same + weight_cross : weight_same;
  batch.same_speaker_shifts[d] = same;
  batch.cross_speaker_shifts[d] = cross;
  batch.num_speakers[d] = speakers_seen;
  store_real(batch.difficulty, batch.is_wide, d, difficulty_of_dialogue(changes, speakers_seen, utterances));
}

template <class Number, bool weighs>
void transitions_of_dialogues(const TransitionsBatch& batch, int64_t first, int64_t last, TransitionsWork& work) {
  constexpr auto wide = IntegerType::kInt64;
  if (batch.labels_type == wide && batch.labels_stride == 8 && batch.speakers_type == wide &&
      batch.speakers_stride == 8) {
    const ContiguousIntegers labels{batch.labels}, speakers{batch.speakers};
    for (int64_t d = first; d < last; ++d) dialogue_transitions<Number, weighs>(batch, labels, speakers, d, work);
    return;
  }
  const AnyIntegers labels{batch.labels, batch.labels_type, batch.labels_stride};
  const AnyIntegers speakers{batch.speakers, batch.speakers_type, batch.speakers_stride};
  for (int64_t d = first; d < last; ++d) dialogue_transitions<Number, weighs>(batch, labels, speakers, d, work);
}

void transitions_of_dialogues(const TransitionsBatch& batch, int64_t first, int64_t last, TransitionsWork& work) {
  if (batch.is_wide) {
    if (batch.changes != nullptr) return transitions_of_dialogues<int64_t, true>(batch, first, last, work);
    return transitions_of_dialogues<int64_t, false>(batch, first, last, work);
  }
  if (batch.changes != nullptr) return transitions_of_dialogues<int32_t, true>(batch, first, last, work);
  return transitions_of_dialogues<int32_t, false>(batch, first, last, work);
}

void fill_changes(const FloatRows& similarity, int64_t num_classes, double* changes) {
  for (int64_t i = 0; i < num_classes; ++i) {
    for (int64_t j = 0; j < num_classes; ++j) {
      const char* address = similarity.data + i * similarity.row_stride + j * similarity.class_stride;
      changes[i * num_classes + j] = i == j ? 0 : weight_of_change(load_float(similarity.type, address));
    }
  }
  changes[num_classes * num_classes] = 0;
}

/// The surprisal of the transition of one number.
SPCL_HD double surprisal_of_number(const TransitionsBatch& batch, const int64_t* counts, const double* from_class,
                                   int64_t number) {
  if (number == batch.none()) return 0;
  if (number == batch.undefined()) return __builtin_nan("");
  return surprisal_of_transition(counts[number], from_class[number / batch.num_classes], batch.num_classes);
}

void fill_surprisals(const TransitionsBatch& batch, const int64_t* counts, const double* from_class, void* surprisals) {
  for (int64_t number = 0; number <= batch.undefined(); ++number) {
    store_real(surprisals, batch.is_wide, number, surprisal_of_number(batch, counts, from_class, number));
  }
}

template <class Number, class Real>
void surprisal_of_utterances(const TransitionsBatch& batch, const int64_t* counts, const double* from_class,
                             const void* surprisals, int64_t begin, int64_t end) {
  static_assert(sizeof(Number) == sizeof(Real));
  constexpr int64_t size = sizeof(Real);
  char* values = static_cast<char*>(batch.surprisal);
  if (surprisals != nullptr) {
    const Real* table = static_cast<const Real*>(surprisals);
    for (int64_t t = begin; t < end; ++t) {
      const Real value = table[load_as<Number>(values + t * size)];
      std::memcpy(values + t * size, &value, sizeof value);
    }
    return;
  }
  for (int64_t t = begin; t < end; ++t) {
    const Number number = load_as<Number>(values + t * size);
    const Real value = static_cast<Real>(surprisal_of_number(batch, counts, from_class, number));
    std::memcpy(values + t * size, &value, sizeof value);
  }
}

void surprisal_of_utterances(const TransitionsBatch& batch, const int64_t* counts, const double* from_class,
                             const void* surprisals, int64_t begin, int64_t end) {
  if (batch.is_wide) {
    return surprisal_of_utterances<int64_t, double>(batch, counts, from_class, surprisals, begin, end);
  }
  return surprisal_of_utterances<int32_t, float>(batch, counts, from_class, surprisals, begin, end);
}

}  // namespace SPCL_ISA
}  // namespace spcl
