#include "cpu/update_running_scores.h"

#include <string>

#include "torch/check.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "update_running_scores";

/// A contiguous tensor [size] of one type.
template <class T>
const T* checked_column(const char* name, const Tensor& tensor, ScalarType type, int64_t size) {
  const std::string label(name);
  SPCL_CHECK(tensor.scalar_type() == type, kOp, label + " must be " + toString(type), toString(tensor.scalar_type()));
  SPCL_CHECK(tensor.dim() == 1 && tensor.size(0) == size, kOp, label + " must be [" + std::to_string(size) + "]",
             shape_text(tensor));
  SPCL_CHECK(tensor.is_contiguous(), kOp, label + " must be contiguous", "strides");
  return reinterpret_cast<const T*>(checked_extent(kOp, name, tensor).begin);
}

}  // namespace

void update_running_scores_cpu(const Tensor& rows, const Tensor& row, const Tensor& loss, const Tensor& confidence,
                               const Tensor& correct, const std::optional<Tensor>& scored, double decay, bool strict) {
  SPCL_CHECK(rows.scalar_type() == ScalarType::Float, kOp, "rows must be float32", toString(rows.scalar_type()));
  SPCL_CHECK(rows.dim() == 2 && rows.size(0) > 0 && rows.size(1) == kRunningColumns, kOp,
             "rows must be [N + 1, " + std::to_string(kRunningColumns) + "]", shape_text(rows));
  SPCL_CHECK(rows.is_contiguous(), kOp, "rows must be contiguous", "strides");
  SPCL_CHECK(decay >= 0 && decay < 1, kOp, "decay must lie in [0, 1)", decay);
  SPCL_CHECK(row.dim() == 1, kOp, "row must have 1 dimension", shape_text(row));
  const int64_t count = row.size(0);
  checked_extent(kOp, "rows", rows);
  const Observations seen{
      checked_column<int64_t>("row", row, ScalarType::Long, count),
      checked_column<float>("loss", loss, ScalarType::Float, count),
      checked_column<float>("confidence", confidence, ScalarType::Float, count),
      checked_column<bool>("correct", correct, ScalarType::Bool, count),
      scored ? checked_column<bool>("scored", *scored, ScalarType::Bool, count) : nullptr,
      count,
  };
  const RunningScores scores{static_cast<float*>(rows.mutable_data_ptr()), rows.size(0) - 1};  // the last is spare
  SPCL_CHECK(!strict || all_rows_are_there(scores, seen), kOp,
             "row must lie in [0, " + std::to_string(scores.num_rows) + ")", "another");
  update_running_scores(scores, seen, static_cast<float>(decay));
}

}  // namespace spcl
