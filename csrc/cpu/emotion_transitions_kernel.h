// The kernel, for the instruction set being compiled (see cpu/every_isa.h).

#include "math/emotion_transitions.h"

namespace spcl {
namespace SPCL_ISA {

/// Number `index` of integers that lie beside one another: int64 is what nearly every caller has, int32 what a store.
template <class Integer>
struct ContiguousIntegers {
  const char* data;
  SPCL_HD int64_t at(int64_t index) const {
    return load_as<Integer>(data + index * static_cast<int64_t>(sizeof(Integer)));
  }
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

/// `Number` is an integer as wide as the surprisals; `plain`: transitions are the dialogue's, counts the thread's own.
///
/// Nothing that depends on a label or on a small speaker number is a branch: a processor cannot guess them. Hence a
/// label is kept as where its row of transitions begins, and the first utterance of a chain has a row as well.
template <class Number, bool weighs, bool plain, class Integers>
SPCL_HD void dialogue_transitions(const TransitionsBatch& batch, Integers labels, Integers speakers, int64_t d,
                                  TransitionsWork& work) {
  const TransitionNumbers numbers(batch.num_classes);
  const int64_t C = batch.num_classes, ignore_index = batch.ignore_index;
  const int32_t unseen = numbers.first(), cut = numbers.after_cut();
  const bool by_speaker = !plain && batch.by_speaker, is_shared = !plain && work.is_shared;
  const double* changes = batch.changes;
  int64_t* counts = work.counts;
  int32_t* of_small = work.speakers.of_small;
  Number* out = static_cast<Number*>(batch.surprisal);
  for (int64_t k = 0; k < SpeakerLabels::kSmall; ++k) of_small[k] = unseen;

  const int64_t begin = batch.offsets[d], end = batch.offsets[d + 1];
  int64_t not_scored = 0, speakers_seen = 0, same = 0, cross = 0;
  double weight_same = 0, weight_cross = 0;
  int32_t previous = unseen;
  int64_t previous_speaker = -1;
  for (int64_t t = begin; t < end; ++t) {
    const int64_t label = labels.at(t), speaker = speakers.at(t);
    int64_t not_other = previous_speaker;
    int32_t nobody = unseen;  // an unknown speaker is one that was never heard before
    int32_t* slot = &nobody;
    if (static_cast<uint64_t>(speaker) < static_cast<uint64_t>(SpeakerLabels::kSmall)) [[likely]] {
      slot = of_small + speaker;
    } else if (speaker != -1) {
      slot = &work.speakers.of_other(speaker, d, unseen);
    } else {
      not_other = 0;  // anyone but this one
    }
    const bool is_scored = static_cast<uint64_t>(label) < static_cast<uint64_t>(C) && label != ignore_index;
    if (!is_scored) [[unlikely]] {
      out[t] = static_cast<Number>(numbers.undefined());
      ++not_scored;
      if (batch.breaks) {
        previous = cut;
        if (*slot != unseen) *slot = cut;
      }
      continue;
    }
    const int32_t y = static_cast<int32_t>(label), row = static_cast<int32_t>(label * C), own = *slot;
    *slot = row;
    const bool is_other = speaker != not_other;
    same += (own < unseen) & (own != row);
    cross += (previous < unseen) & (previous != row) & is_other;
    speakers_seen += own == unseen;
    if constexpr (weighs) {
      weight_same += changes[own + y];
      weight_cross += changes[unseen + (-static_cast<int32_t>(is_other) & (previous + y - unseen))];
    }
    const int32_t number = (by_speaker ? own : previous) + y;
    out[t] = static_cast<Number>(number);
    if (!is_shared) {
      ++counts[number];
    } else if (number < unseen) {
      __atomic_fetch_add(counts + number, 1, __ATOMIC_RELAXED);
    }
    previous = row;
    previous_speaker = speaker;
  }
  double total = static_cast<double>(same);
  if constexpr (weighs) total = batch.weighs_both ? weight_same + weight_cross : weight_same;
  batch.same_speaker_shifts[d] = same;
  batch.cross_speaker_shifts[d] = cross;
  batch.num_speakers[d] = speakers_seen;
  const int64_t utterances = end - begin - not_scored;
  store_real(batch.difficulty, batch.is_wide, d, difficulty_of_dialogue(total, speakers_seen, utterances));
}

template <class Number, bool weighs, bool plain, class Integers>
void transitions_of_dialogues(const TransitionsBatch& batch, Integers labels, Integers speakers, int64_t first,
                              int64_t last, TransitionsWork& work) {
  for (int64_t d = first; d < last; ++d) dialogue_transitions<Number, weighs, plain>(batch, labels, speakers, d, work);
}

/// Whether labels and speakers are integers of one type that lie beside one another.
inline bool are_contiguous(const TransitionsBatch& batch, IntegerType type, int64_t size) {
  return batch.labels_type == type && batch.labels_stride == size && batch.speakers_type == type &&
         batch.speakers_stride == size;
}

template <class Number, bool weighs>
void transitions_of_dialogues(const TransitionsBatch& batch, int64_t first, int64_t last, TransitionsWork& work) {
  const auto contiguous = [&]<class Integer>(Integer) {
    const ContiguousIntegers<Integer> labels{batch.labels}, speakers{batch.speakers};
    if (batch.by_speaker || work.is_shared) {
      return transitions_of_dialogues<Number, weighs, false>(batch, labels, speakers, first, last, work);
    }
    return transitions_of_dialogues<Number, weighs, true>(batch, labels, speakers, first, last, work);
  };
  if (are_contiguous(batch, IntegerType::kInt64, sizeof(int64_t))) return contiguous(int64_t{});
  if (are_contiguous(batch, IntegerType::kInt32, sizeof(int32_t))) return contiguous(int32_t{});
  const AnyIntegers labels{batch.labels, batch.labels_type, batch.labels_stride};
  const AnyIntegers speakers{batch.speakers, batch.speakers_type, batch.speakers_stride};
  transitions_of_dialogues<Number, weighs, false>(batch, labels, speakers, first, last, work);
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
  const TransitionNumbers numbers(num_classes);
  for (int64_t k = numbers.first(); k < numbers.count(); ++k) changes[k] = 0;
  for (int64_t i = 0; i < num_classes; ++i) {
    for (int64_t j = 0; j < num_classes; ++j) {
      const char* address = similarity.data + i * similarity.row_stride + j * similarity.class_stride;
      changes[i * num_classes + j] = i == j ? 0 : weight_of_change(load_float(similarity.type, address));
    }
  }
}

/// The surprisal of the transition of one number.
SPCL_HD double surprisal_of_number(const TransitionsBatch& batch, const int64_t* counts, const double* from_class,
                                   int64_t number) {
  const TransitionNumbers numbers(batch.num_classes);
  if (number == numbers.undefined()) return __builtin_nan("");
  if (number >= numbers.first()) return 0;
  return surprisal_of_transition(counts[number], from_class[number / batch.num_classes], batch.num_classes);
}

void fill_surprisals(const TransitionsBatch& batch, const int64_t* counts, const double* from_class, void* surprisals) {
  for (int64_t number = 0; number < TransitionNumbers(batch.num_classes).count(); ++number) {
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
