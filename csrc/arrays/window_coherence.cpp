#include "cpu/window_coherence.h"

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "window_coherence";

}  // namespace

py::array window_coherence(const std::vector<py::array>& embeddings, const py::array& offsets,
                           const std::optional<py::array>& present, int64_t window, bool of_predictions) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const RowsInput input = checked_rows(kOp, "embeddings", of_predictions ? 'C' : 'F', embeddings);
  check(kOp, input.modalities >= 2 && input.modalities <= CoherenceBatch::max_modalities,
        "the coherence between modalities needs at least 2 of them, and at most 256", std::to_string(input.modalities));
  check(kOp, input.columns > 0, "embeddings must have at least one feature", shape_text(embeddings.front()));
  check(kOp, window >= 1 && window % 2 == 1, "window must be odd and at least 1", std::to_string(window));
  const PresentInput has = checked_present(kOp, present, input.modalities, input.utterances);
  const std::vector<int64_t> bounds = checked_offsets(kOp, offsets, input.utterances);

  std::vector<FloatRows> rows;
  for (int64_t m = 0; m < input.modalities; ++m) rows.push_back(input.modality(m));
  CoherenceBatch batch{};
  batch.rows = rows.data();
  batch.modalities = input.modalities;
  batch.columns = input.columns;
  batch.of_predictions = of_predictions;
  batch.present = has.data;
  batch.present_modality_stride = has.modality_stride;
  batch.present_stride = has.stride;
  batch.offsets = bounds.data();
  batch.dialogues = static_cast<int64_t>(bounds.size()) - 1;
  batch.half = coherence_half(window, bounds);

  py::array coherence = new_array(input.type, {input.utterances});
  void* const out = coherence.mutable_data();
  const py::gil_scoped_release release;
  const CoherenceWork memory(batch);
  spcl::window_coherence(batch, 0, input.utterances, memory.get(), out, nullptr);
  return coherence;
}

}  // namespace spcl::arrays
