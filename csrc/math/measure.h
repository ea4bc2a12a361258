#pragma once

#include <cstdint>

namespace spcl {

/// What the difficulty of an utterance measures beside its extra difficulty: the harmonic mean of spread and loss, one
/// of the two, or nothing.
enum class Measure : int64_t { kSpcl, kLoss, kSpread, kNone };

inline constexpr bool needs_spread(Measure measure) { return measure == Measure::kSpcl || measure == Measure::kSpread; }

}  // namespace spcl
