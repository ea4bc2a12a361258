#include "cpu/update_running_scores.h"

#include <cmath>

namespace spcl {
namespace {

enum Column { kLoss, kConfidence, kMean, kSquares, kCount, kChanges };

constexpr int64_t kAhead = 24;  // rows lie anywhere in memory: this many utterances before its turn, each is asked for

/// The row of an observation that counts, or nullptr.
float* row_of(const RunningScores& scores, const Observations& seen, int64_t t) {
  const int64_t row = seen.row[t];
  if (row < 0 || row >= scores.num_rows) return nullptr;
  if (seen.scored != nullptr && !seen.scored[t]) return nullptr;
  if (!std::isfinite(seen.loss[t]) || !std::isfinite(seen.confidence[t])) return nullptr;
  return scores.rows + row * kRunningColumns;
}

void prefetch(const RunningScores& scores, const Observations& seen, int64_t t) {
  if (t < 0) return;
  const int64_t row = seen.row[t];
  if (row < 0 || row >= scores.num_rows) return;
  const float* first = scores.rows + row * kRunningColumns;  // its numbers may lie in two lines of a cache
  __builtin_prefetch(first, 1);
  __builtin_prefetch(first + kRunningColumns - 1, 1);
}

/// Whether the number of changes is odd: an utterance begins wrong. A row is what a file may hold, so it can be
/// anything.
bool is_correct(float changes) { return changes < 0x1p24f && (static_cast<int32_t>(changes) & 1) != 0; }

void observe(float* row, float loss, float confidence, bool correct, float of_new) {
  const float count = std::fabs(row[kCount]) + 1;
  row[kLoss] = count == 1 ? loss : row[kLoss] + of_new * (loss - row[kLoss]);
  row[kConfidence] = count == 1 ? confidence : row[kConfidence] + of_new * (confidence - row[kConfidence]);
  const float before = confidence - row[kMean];
  row[kMean] += before / count;
  row[kSquares] += before * (confidence - row[kMean]);
  row[kCount] = -count;
  row[kChanges] += is_correct(row[kChanges]) != correct;
}

}  // namespace

bool all_rows_are_there(const RunningScores& scores, const Observations& seen) {
  bool are_there = true;
  for (int64_t t = 0; t < seen.count; ++t) are_there &= seen.row[t] >= 0 && seen.row[t] < scores.num_rows;
  return are_there;
}

void update_running_scores(const RunningScores& scores, const Observations& seen, float decay) {
  // Backwards, so that the last of several comes first. A row that has been taken is marked by changes below zero,
  // which no row has otherwise, and the marks go before anybody can see them.
  for (int64_t t = seen.count - 1; t >= 0; --t) {
    prefetch(scores, seen, t - kAhead);
    float* row = row_of(scores, seen, t);
    if (row == nullptr || row[kChanges] < 0) continue;
    observe(row, seen.loss[t], seen.confidence[t], seen.correct[t], 1 - decay);
    row[kChanges] = -1 - row[kChanges];
  }
  for (int64_t t = 0; t < seen.count; ++t) {
    float* row = row_of(scores, seen, t);
    if (row != nullptr && row[kChanges] < 0) row[kChanges] = -1 - row[kChanges];
  }
}

}  // namespace spcl
