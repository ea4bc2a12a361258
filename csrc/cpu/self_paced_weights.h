#pragma once

#include <cstdint>
#include <optional>

#include "cpu/dtypes.h"
#include "cpu/fault.h"

namespace spcl {

enum class Scheme {
  kHard,
  kLinear,
  kLogistic,
  kLog,
  kMixture,
  kPolynomial,
  kSpld,
  kSuperLoss,
  kGiven,
  kPolynomialOfCurml
};

/// A scheme at a threshold. `parameter` is the smaller threshold of kMixture, the degree of kPolynomial and
/// kPolynomialOfCurml, the bonus gamma of kSpld, the regularization of kSuperLoss, and nothing for the others.
struct Weighting {
  Scheme scheme;
  double threshold, parameter;
};

/// Whether `scheme` is the number of one and `parameter` and `threshold` (none: not looked at) are in its domain.
Fault weighting_fault(int64_t scheme, double parameter, std::optional<double> threshold);

/// Whether `measure` is the number of one, and a batch has what it needs: the modalities, the extra difficulty.
Fault measure_fault(int64_t measure, int64_t modalities, bool has_extra);

/// Weights of `count` contiguous difficulties, float or double; of every scheme but kSpld, which needs ranks.
void self_paced_weights(FloatType type, const void* difficulty, void* weight, int64_t count,
                        const Weighting& weighting);

/// The groups of kSpld: integers of any type, `stride` bytes apart.
struct Groups {
  const char* data;
  IntegerType type;
  int64_t stride;
};

/// The weights of kSpld: 1 for the difficulties of a group that lie below the bound of their rank in it.
///
/// Serial, in time that grows with `count` alone: what is below the threshold needs no rank and is only counted, and
/// in the rest of a group the bound falls as the difficulty rises, so that a bisection finds the last one selected.
void spld_weights(FloatType type, const void* difficulty, void* weight, int64_t count, const Weighting& weighting,
                  const Groups& groups);

}  // namespace spcl
