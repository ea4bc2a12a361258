#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/dtypes.h"
#include "cpu/labels.h"
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

/// A tensor [utterances]: where it starts, its type and stride in bytes.
struct LabelsInput {
  const char* data;
  IntegerType type;
  int64_t stride;
  Extent extent;

  LabelRows rows(int64_t ignore_index, int64_t num_classes) const {
    return {data, type, stride, ignore_index, num_classes};
  }
};
LabelsInput checked_labels(const char* op, const Tensor& labels, int64_t utterances);

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

/// The number a 0-dim floating point tensor holds, or `number`; NaN is refused. None when neither is given.
std::optional<double> checked_threshold(const char* op, const std::optional<Tensor>& tensor,
                                        std::optional<double> number);

}  // namespace spcl
