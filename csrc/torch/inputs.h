#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/difficulty_histogram.h"
#include "cpu/dtypes.h"
#include "cpu/labels.h"
#include "cpu/self_paced_weights.h"
#include "torch/check.h"

namespace spcl {

FloatType float_type(const char* op, const char* name, ScalarType type);
IntegerType integer_type(const char* op, const char* name, ScalarType type);

/// float64 for float64 inputs and float32 for all others: the dtype of every result.
inline ScalarType result_type(FloatType type) {
  return type == FloatType::kFloat64 ? ScalarType::Double : ScalarType::Float;
}
inline int64_t itemsize_of(ScalarType result) { return result == ScalarType::Double ? 8 : 4; }

/// The logits or embeddings of a call, every tensor checked: nothing in it can lead outside one.
struct RowsInput {
  int64_t modalities, utterances, columns;
  FloatType type;
  ScalarType result;
  int64_t modality_stride;         // bytes, of a stacked tensor
  std::vector<FloatRows> sources;  // one for each tensor of the list
  std::vector<Extent> extents;

  FloatRows modality(int64_t m) const {
    const bool stacked = sources.size() == 1;
    FloatRows rows = sources[stacked ? 0 : static_cast<size_t>(m)];
    rows.data += m * modality_stride;
    return rows;
  }
};

/// One tensor [M, T, columns], or M tensors [T, columns] of one shape and dtype. `letter` names the columns.
RowsInput checked_rows(const char* op, const char* name, char letter, const std::vector<Tensor>& tensors);

/// The same for logits, which have at least one class.
RowsInput checked_logits(const char* op, const std::vector<Tensor>& logits);

/// A tensor of integers [size]: where it starts, its type and stride in bytes.
struct IntegersInput {
  const char* data;
  IntegerType type;
  int64_t stride;
  Extent extent;

  LabelRows rows(int64_t ignore_index, int64_t num_classes) const {
    return {data, type, stride, ignore_index, num_classes};
  }
};
IntegersInput checked_integers(const char* op, const char* name, const Tensor& tensor, int64_t size);

/// A copy of a matrix [size, size] of integers that are at least 0.
std::vector<int64_t> checked_counts(const char* op, const char* name, const Tensor& tensor, int64_t size);

/// A bool tensor [M, T]; `data` is nullptr where none is given.
struct PresentInput {
  const char* data;
  int64_t modality_stride, stride;
  Extent extent;
};
PresentInput checked_present(const char* op, const std::optional<Tensor>& present, int64_t modalities,
                             int64_t utterances);

/// A floating point tensor of one shape: [size] or [rows, columns].
FloatRows checked_floats(const char* op, const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape);

/// Offsets [D+1] that run from 0 to `utterances` without falling.
std::vector<int64_t> checked_offsets(const char* op, const Tensor& offsets, int64_t utterances);

/// Difficulties [T].
FloatRows checked_difficulty(const char* op, const Tensor& difficulty);

/// Either a pace in (0, 1] or a 0-dim floating point tensor, which is not looked at.
void check_pace(const char* op, std::optional<double> pace, const std::optional<Tensor>& pace_tensor);

/// The pace, read on the host and in (0, 1].
double checked_pace(const char* op, std::optional<double> pace, const std::optional<Tensor>& pace_tensor);

/// Difficulties or int64 keys [T], the digits found as a 0-dim tensor, and a digit that their keys have.
HistogramInput checked_histogram(const char* op, const Tensor& difficulty, const Tensor& prefix, int64_t level);

/// The number a 0-dim floating point tensor holds, or `number`; NaN is refused. None when neither is given.
std::optional<double> checked_threshold(const char* op, const std::optional<Tensor>& tensor,
                                        std::optional<double> number);

/// A scheme by its number; its parameter and, where there is one, the threshold lie in its domain.
Weighting checked_weighting(const char* op, int64_t scheme, double parameter, std::optional<double> threshold);

}  // namespace spcl
