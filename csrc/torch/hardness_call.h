#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cpu/multiview_hardness.h"
#include "torch/inputs.h"

namespace spcl {

/// A call of multiview_hardness whose every tensor was checked: nothing in it can lead outside one.
struct HardnessCall {
  int64_t modalities, utterances, units;
  FloatType type;
  ScalarType result;
  std::vector<FloatRows> reconstruction, target, hidden, crossed;  // no target: zeros
  std::vector<int64_t> widths;                                     // features of each modality
  PresentInput present;
  FloatRows valid;    // [T] bytes; no data: all are
  FloatRows scaling;  // float64 [4]; no data: to be worked out
};

/// One tensor [n, T, F], or n tensors [T, F_k], of the type of the call; with `widths` of as many features as those
/// say, else `widths` is filled.
inline std::vector<FloatRows> checked_kind(const char* op, const char* name, const std::vector<Tensor>& tensors,
                                           const HardnessCall& call, int64_t count, std::vector<int64_t>& widths) {
  const std::string label(name);
  std::vector<FloatRows> rows;
  const auto take = [&](const RowsInput& input) {
    SPCL_CHECK(input.type == call.type, op, label + " must have the dtype of hidden", "another");
    SPCL_CHECK(input.utterances == call.utterances, op, label + " must have the utterances of hidden", input.utterances,
               " for ", call.utterances);
    SPCL_CHECK(input.columns > 0, op, label + " must have at least one feature", "none");
    for (int64_t k = 0; k < input.modalities; ++k) {
      const size_t place = rows.size();
      rows.push_back(input.modality(k));
      if (place >= widths.size()) widths.push_back(input.columns);
      SPCL_CHECK(widths[place] == input.columns, op, label + " must have the features of its modality", input.columns,
                 " for ", widths[place]);
    }
  };
  if (tensors.size() == 1 && tensors.front().dim() == 3) {
    take(checked_rows(op, name, 'F', tensors));
  } else {
    for (const Tensor& tensor : tensors) {
      SPCL_CHECK(tensor.dim() == 2, op, label + " must be one tensor [n, T, F] or n tensors [T, F]",
                 shape_text(tensor));
      take(checked_rows(op, name, 'F', {tensor}));
    }
  }
  SPCL_CHECK(
      static_cast<int64_t>(rows.size()) == count, op,
      label + " must have " + std::to_string(count) + " entries for " + std::to_string(call.modalities) + " modalities",
      rows.size());
  return rows;
}

inline HardnessCall checked_hardness_call(const char* op, const std::vector<Tensor>& reconstruction,
                                          const std::vector<Tensor>& target, const std::vector<Tensor>& hidden,
                                          const std::vector<Tensor>& crossed, const Tensor& present,
                                          const std::optional<Tensor>& valid, const std::optional<Tensor>& scaling,
                                          int64_t mi_sign) {
  const RowsInput z = checked_rows(op, "hidden", 'F', hidden);
  SPCL_CHECK(z.modalities >= 2 && z.modalities <= kMostHardnessModalities, op,
             "the information between modalities needs at least 2 of them, and at most " +
                 std::to_string(kMostHardnessModalities),
             z.modalities);
  SPCL_CHECK(z.columns > 0, op, "hidden must have at least one feature", "none");
  SPCL_CHECK(mi_sign == 1 || mi_sign == -1, op, "mi_sign must be 1 or -1", mi_sign);
  HardnessCall call{};
  call.modalities = z.modalities;
  call.utterances = z.utterances;
  call.units = z.columns;
  call.type = z.type;
  call.result = z.result;
  for (int64_t m = 0; m < z.modalities; ++m) call.hidden.push_back(z.modality(m));
  const int64_t pairs = z.modalities * (z.modalities - 1) / 2;
  std::vector<int64_t> units(static_cast<size_t>(pairs), z.columns);
  call.crossed = checked_kind(op, "crossed", crossed, call, pairs, units);
  call.reconstruction = checked_kind(op, "reconstruction", reconstruction, call, z.modalities, call.widths);
  if (!target.empty()) call.target = checked_kind(op, "target", target, call, z.modalities, call.widths);
  call.present = checked_present(op, present, z.modalities, z.utterances);
  if (valid) {
    SPCL_CHECK(valid->scalar_type() == ScalarType::Bool, op, "valid must be bool", toString(valid->scalar_type()));
    SPCL_CHECK(valid->dim() == 1 && valid->size(0) == z.utterances, op, "valid must be [T]", shape_text(*valid));
    call.valid = {checked_extent(op, "valid", *valid).begin, z.type, valid->stride(0), 0};
  }
  if (scaling) {
    SPCL_CHECK(scaling->scalar_type() == ScalarType::Double, op, "scaling must be float64",
               toString(scaling->scalar_type()));
    call.scaling = checked_floats(op, "scaling", *scaling, {4});
  }
  return call;
}

}  // namespace spcl
