#include "cpu/modality_spread.h"

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "modality_spread";

}  // namespace

py::array modality_spread(const py::array& confidence, const py::array& offsets,
                          const std::optional<py::array>& present, bool of_means) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  check(kOp, confidence.ndim() == 2, "confidence must be [M, T]", shape_text(confidence));
  const int64_t modalities = confidence.shape(0), utterances = confidence.shape(1);
  check_modalities(kOp, modalities);
  const FloatRows values = checked_floats(kOp, "confidence", confidence, {modalities, utterances});
  const PresentInput has = checked_present(kOp, present, modalities, utterances);
  const std::vector<int64_t> bounds = checked_offsets(kOp, offsets, utterances);
  const auto dialogues = static_cast<int64_t>(bounds.size()) - 1;
  py::array spread = new_array(values.type, {dialogues});

  SpreadBatch batch{};
  batch.confidence = values.data;
  batch.type = values.type;
  batch.modality_stride = values.row_stride;
  batch.stride = values.class_stride;
  batch.modalities = modalities;
  batch.present = has.data;
  batch.present_modality_stride = has.modality_stride;
  batch.present_stride = has.stride;
  batch.of_means = of_means;
  batch.spread = spread.mutable_data();

  const py::gil_scoped_release release;
  std::vector<double> work(static_cast<size_t>((modalities + 1) * kSpreadRows));
  std::vector<double> sums(static_cast<size_t>(modalities));
  std::vector<int64_t> known(static_cast<size_t>(modalities));
  for (int64_t d = 0; d < dialogues; ++d) {
    const auto k = static_cast<size_t>(d);
    spcl::modality_spread(batch, d, bounds[k], bounds[k + 1], work.data(), sums.data(), known.data());
  }
  return spread;
}

}  // namespace spcl::arrays
