#include "cpu/modality_scores.h"

#include <pybind11/pybind11.h>

#include <algorithm>
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
  const RowsInput z = checked_rows(kOp, "logits", 'C', logits);
  check(kOp, z.columns <= INT32_MAX, "logits must have fewer than 2^31 classes", shape_text(logits.front()));
  check(kOp, z.columns > 0 || z.modalities == 0 || z.utterances == 0, "logits must have at least one class",
        shape_text(logits.front()));
  const LabelRows y = checked_integers(kOp, "labels", labels, z.utterances).rows(ignore_index, z.columns);
  const PresentInput has = checked_present(kOp, present, z.modalities, z.utterances);
  py::array slab = new_array(z.type, {4, z.modalities, z.utterances});
  const int64_t row_bytes = z.utterances * slab.itemsize();
  char* out = static_cast<char*>(slab.mutable_data());

  if (z.utterances == 0) return slab;
  std::vector<ModalityScoresRows> rows;
  for (int64_t m = 0; m < z.modalities; ++m) {
    ModalityScoresRows of_modality{};
    of_modality.logits = z.modality(m);
    if (has.data != nullptr) of_modality.present = has.data + m * has.modality_stride;
    of_modality.present_stride = has.stride;
    const auto score = [&](int64_t k) { return out + (k * z.modalities + m) * row_bytes; };
    of_modality.loss = score(0);
    of_modality.confidence = score(1);
    of_modality.entropy = score(2);
    of_modality.margin = score(3);
    rows.push_back(of_modality);
  }

  const py::gil_scoped_release release;
  for (int64_t begin = 0; begin < z.utterances; begin += kModalityScoresChunk) {
    const int64_t end = std::min(begin + kModalityScoresChunk, z.utterances);
    spcl::modality_scores(rows.data(), z.modalities, y, begin, end);
  }
  return slab;
}

}  // namespace spcl::arrays
