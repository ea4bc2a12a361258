#pragma once

#include <cstdint>

#include "cpu/dtypes.h"

namespace spcl {

/// Lots, and the selections that go by them; the torch form, which computes the same bits: spcl_fast/selections.py.

/// What the lot of an utterance is a hash of, beside its id.
struct Draw {
  int64_t epoch, seed;
};

/// Ids [count]; `data` is nullptr where there are none.
struct Ids {
  const char* data;
  IntegerType type;
  int64_t stride;  // bytes
};

/// The odds of an utterance: `pace + tilt min(pace, 1 - pace) (1 - 2 easier)`.
struct Odds {
  double pace, tilt;
};

/// True where the lot falls on an utterance whose difficulty, float32 or float64, is not NaN: selected [count].
void select_by_odds(const FloatRows& difficulty, int64_t count, const Ids& ids, const Draw& draw, const Odds& odds,
                    bool* selected);

/// True for `taken` utterances of those whose difficulty is not NaN, or for all of them where they are fewer: by lot, or
/// without ids the hardest, of equals the first.
void select_as_many(const FloatRows& difficulty, int64_t count, const Ids& ids, const Draw& draw, int64_t taken,
                    bool* selected);

/// How many have a difficulty that is at most the threshold, rounded to the dtype of the difficulties.
int64_t count_up_to(const FloatRows& difficulty, int64_t count, double threshold);

}  // namespace spcl
