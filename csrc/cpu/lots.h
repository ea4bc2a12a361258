#pragma once

#include <cstdint>
#include <vector>

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

/// True for as many of those whose difficulty is not NaN as `others` [count] says, or for all of them where they are
/// fewer: by lot, or without ids the hardest, of equals the first. With the offsets of `dialogues`, empty where nobody
/// asks for them, each dialogue gives about as many as one of its length gave to the others.
void select_as_many(const FloatRows& difficulty, int64_t count, const Ids& ids, const Draw& draw,
                    const std::vector<bool>& others, const std::vector<int64_t>& dialogues, bool* selected);

/// Those whose difficulty is at most the threshold, rounded to the dtype of the difficulties.
std::vector<bool> up_to(const FloatRows& difficulty, int64_t count, double threshold);

}  // namespace spcl
