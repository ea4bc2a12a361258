#include "cpu/multiview_hardness.h"

#include <pybind11/pybind11.h>

#include <memory>
#include <new>
#include <string>
#include <vector>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "multiview_hardness";

/// One array [n, T, F], or n arrays [T, F_k], with the type and the utterances of `hidden`; with `widths` of as many
/// features as those say, else `widths` is filled.
std::vector<FloatRows> checked_kind(const char* name, const std::vector<py::array>& arrays, const RowsInput& hidden,
                                    int64_t count, std::vector<int64_t>& widths) {
  const std::string label(name);
  std::vector<FloatRows> rows;
  const auto take = [&](const RowsInput& input) {
    check(kOp, input.type == hidden.type, label + " must have the dtype of hidden", "another");
    check(kOp, input.utterances == hidden.utterances, label + " must have the utterances of hidden",
          std::to_string(input.utterances) + " for " + std::to_string(hidden.utterances));
    check(kOp, input.columns > 0, label + " must have at least one feature", "none");
    for (int64_t k = 0; k < input.modalities; ++k) {
      const size_t place = rows.size();
      rows.push_back(input.modality(k));
      if (place >= widths.size()) widths.push_back(input.columns);
      check(kOp, widths[place] == input.columns, label + " must have the features of its modality",
            std::to_string(input.columns) + " for " + std::to_string(widths[place]));
    }
  };
  if (arrays.size() == 1 && arrays.front().ndim() == 3) {
    take(checked_rows(kOp, name, 'F', arrays));
  } else {
    for (const py::array& array : arrays) take(checked_rows(kOp, name, 'F', {array}));
  }
  check(kOp, static_cast<int64_t>(rows.size()) == count,
        label + " must have " + std::to_string(count) + " entries for " + std::to_string(hidden.modalities) +
            " modalities",
        std::to_string(rows.size()));
  return rows;
}

}  // namespace

py::tuple multiview_hardness(const std::vector<py::array>& reconstruction, const std::vector<py::array>& target,
                             const std::vector<py::array>& hidden, const std::vector<py::array>& crossed,
                             const py::array& present, const std::optional<py::array>& valid,
                             const std::optional<py::array>& scaling, int64_t mi_sign, double slope,
                             double direct_weight, double information_weight) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const RowsInput z = checked_rows(kOp, "hidden", 'F', hidden);
  check(kOp, z.modalities >= 2 && z.modalities <= kMostHardnessModalities,
        "the information between modalities needs at least 2 of them, and at most " +
            std::to_string(kMostHardnessModalities),
        std::to_string(z.modalities));
  check(kOp, z.columns > 0, "hidden must have at least one feature", "none");
  check(kOp, mi_sign == 1 || mi_sign == -1, "mi_sign must be 1 or -1", std::to_string(mi_sign));
  const int64_t pairs = z.modalities * (z.modalities - 1) / 2;
  std::vector<int64_t> widths, units(static_cast<size_t>(pairs), z.columns);
  std::vector<FloatRows> hidden_rows, target_rows;
  for (int64_t m = 0; m < z.modalities; ++m) hidden_rows.push_back(z.modality(m));
  const std::vector<FloatRows> crossed_rows = checked_kind("crossed", crossed, z, pairs, units);
  const std::vector<FloatRows> rows = checked_kind("reconstruction", reconstruction, z, z.modalities, widths);
  if (!target.empty()) target_rows = checked_kind("target", target, z, z.modalities, widths);
  const PresentInput has = checked_present(kOp, present, z.modalities, z.utterances);
  const PresentInput is_valid = checked_flags(kOp, "valid", valid, z.utterances);

  py::array hardness = new_array(z.type, {z.utterances}), direct = new_array(z.type, {z.utterances});
  py::array information = new_array(z.type, {z.utterances}), ends = new_array(FloatType::kFloat64, {4});
  auto* const used = static_cast<double*>(ends.mutable_data());
  if (scaling) {
    const FloatRows given = checked_floats(kOp, "scaling", *scaling, {4});
    check(kOp, given.type == FloatType::kFloat64, "scaling must be float64", "another dtype");
    for (int64_t k = 0; k < 4; ++k) used[k] = load_as<double>(given.data + k * given.row_stride);
  }

  HardnessBatch batch{};
  batch.modalities = z.modalities;
  batch.utterances = z.utterances;
  batch.units = z.columns;
  batch.type = z.type;
  batch.reconstruction = rows.data();
  batch.target = target.empty() ? nullptr : target_rows.data();
  batch.widths = widths.data();
  batch.hidden = hidden_rows.data();
  batch.crossed = crossed_rows.data();
  batch.present = has.data;
  batch.present_modality_stride = has.modality_stride;
  batch.present_stride = has.stride;
  batch.valid = is_valid.data;
  batch.valid_stride = is_valid.stride;
  batch.sign = static_cast<double>(mi_sign);
  batch.direct = direct.mutable_data();
  batch.information = information.mutable_data();
  void* const out = hardness.mutable_data();

  {
    const py::gil_scoped_release release;
    constexpr std::align_val_t alignment{64};
    const auto free = [](void* memory) { ::operator delete(memory, alignment); };
    const std::unique_ptr<void, decltype(free)> work(
        ::operator new(static_cast<size_t>(hardness_work_bytes(batch)), alignment), free);
    const HardnessBounds bounds = hardness_parts(batch, 0, z.utterances, work.get());
    for (int64_t k = 0; k < 4 && !scaling; ++k) used[k] = bounds.ends[k];
    hardness_of_parts(z.type, batch.direct, batch.information, out, z.utterances, used, slope, direct_weight,
                      information_weight);
  }
  return py::make_tuple(hardness, direct, information, ends);
}

}  // namespace spcl::arrays
