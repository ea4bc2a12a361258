#include "cuda/multiview_hardness.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "torch/cuda/device_call.h"
#include "torch/hardness_call.h"

namespace spcl {
namespace {

constexpr const char* kOp = "multiview_hardness";

/// Whether every row starts at a multiple of 16 bytes and has whole ones.
bool goes_by_pieces(const FloatRows& rows, int64_t columns) {
  const int64_t itemsize = rows.type == FloatType::kFloat64 ? 8 : rows.type == FloatType::kFloat32 ? 4 : 2;
  return rows.class_stride == itemsize && rows.row_stride % 16 == 0 && columns * itemsize % 16 == 0 &&
         reinterpret_cast<uintptr_t>(rows.data) % 16 == 0;
}

Sources::Source source_of(const FloatRows& rows) { return {rows.data, rows.row_stride, rows.class_stride}; }

std::tuple<Tensor, Tensor, Tensor, Tensor> multiview_hardness_on_device(
    const std::vector<Tensor>& reconstruction, const std::vector<Tensor>& target, const std::vector<Tensor>& hidden,
    const std::vector<Tensor>& crossed, const Tensor& present, const std::optional<Tensor>& valid,
    const std::optional<Tensor>& scaling, int64_t mi_sign, double slope, double direct_weight,
    double information_weight) {
  const HardnessCall call =
      checked_hardness_call(kOp, reconstruction, target, hidden, crossed, present, valid, scaling, mi_sign);
  const DeviceCall device(kOp, hidden.front());
  device.require("reconstruction", reconstruction);
  device.require("target", target);
  device.require("hidden", hidden);
  device.require("crossed", crossed);
  device.require("present", present);
  device.require("valid", valid);
  device.require("scaling", scaling);

  HardnessOnDevice batch{};
  batch.modalities = call.modalities;
  batch.utterances = call.utterances;
  batch.units = call.units;
  batch.type = call.type;
  for (size_t m = 0; m < call.widths.size(); ++m) {
    const FloatRows& r = call.reconstruction[m];
    const FloatRows& x = call.target.empty() ? r : call.target[m];
    batch.reconstruction[m] = source_of(r);
    batch.target[m] = call.target.empty() ? Sources::Source{} : source_of(x);
    batch.widths[m] = call.widths[m];
    batch.error_pieces[m] = goes_by_pieces(r, call.widths[m]) && goes_by_pieces(x, call.widths[m]);
  }
  batch.hidden_pieces = true;
  for (const std::vector<FloatRows>* kind : {&call.hidden, &call.crossed}) {
    for (const FloatRows& rows : *kind) {
      batch.hidden[batch.rows++] = source_of(rows);
      batch.hidden_pieces &= goes_by_pieces(rows, call.units);
    }
  }
  batch.present = present_of(call.present);
  batch.valid = {call.valid.data, 0, call.valid.row_stride};
  batch.sign = static_cast<double>(mi_sign);
  batch.scaling = {call.scaling.data, FloatType::kFloat64, call.scaling.row_stride};
  batch.slope = slope;
  batch.direct_weight = direct_weight;
  batch.information_weight = information_weight;

  Tensor hardness = device.empty({call.utterances}, call.result), direct = device.empty({call.utterances}, call.result);
  Tensor information = device.empty({call.utterances}, call.result), ends = device.empty({4}, ScalarType::Double);
  batch.hardness = hardness.mutable_data_ptr();
  batch.direct = direct.mutable_data_ptr();
  batch.information = information.mutable_data_ptr();
  batch.ends = static_cast<double*>(ends.mutable_data_ptr());
  const Tensor workspace = device.workspace(multiview_hardness_bytes(batch));
  multiview_hardness_cuda(batch, workspace.mutable_data_ptr(), device.stream());
  device.check_launches();
  return {hardness, direct, information, ends};
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("multiview_hardness", TORCH_BOX(&spcl::multiview_hardness_on_device));
}
