#pragma once

#include <cstdint>

namespace spcl {

/// Running scores of utterances: `kRunningColumns` numbers each (spcl_fast/_running_rows.py says which).
constexpr int64_t kRunningColumns = 6;

struct RunningScores {
  float* rows;
  int64_t num_rows;
};

/// What a step saw of `count` utterances: their rows and scores. `scored` is nullptr where all are.
struct Observations {
  const int64_t* row;
  const float *loss, *confidence;
  const bool *correct, *scored;
  int64_t count;
};

/// Whether every observation has a row, also one that does not count.
bool all_rows_are_there(const RunningScores& scores, const Observations& observations);

/// Takes the observations into the rows. Left out are those that are not scored, whose loss or confidence is not finite
/// or whose row is not there; of several of one row, all but the last. Serial, one thread at a time on the same rows.
void update_running_scores(const RunningScores& scores, const Observations& observations, float decay);

}  // namespace spcl
