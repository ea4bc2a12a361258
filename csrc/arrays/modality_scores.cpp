#include "cpu/modality_scores.h"

#include <pybind11/pybind11.h>

#include <vector>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "modality_scores";

}  // namespace

py::array modality_scores(const std::vector<py::array>& logits, const py::array& labels,
                          const std::optional<py::array>& present, int64_t ignore_index) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const RowsInput z = checked_logits(kOp, logits);
  const IntegersInput y = checked_integers(kOp, "labels", labels, z.utterances);
  const PresentInput has = checked_present(kOp, present, z.modalities, z.utterances);
  py::array slab = new_array(z.type, {4, z.modalities, z.utterances});
  const int64_t row_bytes = z.utterances * slab.itemsize();
  char* out = static_cast<char*>(slab.mutable_data());

  const py::gil_scoped_release release;
  for (int64_t m = 0; z.utterances > 0 && m < z.modalities; ++m) {
    ModalityScoresRows rows{};
    rows.logits = z.modality(m);
    rows.num_classes = z.columns;
    rows.labels = y.data;
    rows.labels_type = y.type;
    rows.labels_stride = y.stride;
    rows.ignore_index = ignore_index;
    if (has.data != nullptr) rows.present = has.data + m * has.modality_stride;
    rows.present_stride = has.stride;
    const auto score = [&](int64_t k) { return out + (k * z.modalities + m) * row_bytes; };
    rows.loss = score(0);
    rows.confidence = score(1);
    rows.entropy = score(2);
    rows.margin = score(3);
    spcl::modality_scores(rows, 0, z.utterances);
  }
  return slab;
}

}  // namespace spcl::arrays
