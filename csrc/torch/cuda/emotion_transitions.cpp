#include "cuda/emotion_transitions.h"

#include <torch/csrc/stable/library.h>

#include "torch/cuda/device_call.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "emotion_transitions";
constexpr int64_t kMostClasses = 1 << 15;

IntegerMatrix integer_matrix(const Tensor& tensor, int64_t size) {
  const IntegerType type = integer_type(kOp, "counts", tensor.scalar_type());
  SPCL_CHECK(tensor.dim() == 2 && tensor.size(0) == size && tensor.size(1) == size, kOp, "counts must be [C, C]",
             shape_text(tensor) + " for C = " + std::to_string(size));
  const char* data = checked_extent(kOp, "counts", tensor).begin;
  const auto itemsize = static_cast<int64_t>(tensor.element_size());
  return {{data, type, tensor.stride(1) * itemsize}, tensor.stride(0) * itemsize};
}

TransitionsTensors emotion_transitions_on_device(const Tensor& labels, const Tensor& speakers, const Tensor& offsets,
                                                 int64_t num_classes, const std::optional<Tensor>& similarity,
                                                 const std::optional<Tensor>& fitted, int64_t ignore_index, bool breaks,
                                                 bool by_speaker, bool weighs_both) {
  const DeviceCall call(kOp, labels);
  call.require("speakers", speakers);
  call.require("offsets", offsets);
  call.require("similarity", similarity);
  call.require("counts", fitted);
  SPCL_CHECK(num_classes >= 1 && num_classes <= kMostClasses, kOp,
             "num_classes must lie in [1, " + std::to_string(kMostClasses) + "]", num_classes);
  SPCL_CHECK(labels.dim() == 1, kOp, "labels must be [T]", shape_text(labels));
  const int64_t T = labels.size(0), C = num_classes;

  TransitionsCall batch{};
  batch.labels = integers_of(checked_integers(kOp, "labels", labels, T));
  batch.speakers = integers_of(checked_integers(kOp, "speakers", speakers, T));
  const Integers bounds = offsets_of(kOp, offsets);
  batch.offsets = dialogue_offsets(bounds, offsets.size(0) - 1, T);
  batch.num_classes = static_cast<int32_t>(C);
  batch.ignore_index = ignore_index;
  batch.breaks = breaks;
  batch.by_speaker = by_speaker;
  batch.weighs_both = weighs_both;
  if (similarity) batch.similarity = checked_floats(kOp, "similarity", *similarity, {C, C});
  batch.is_wide = similarity && batch.similarity.type == FloatType::kFloat64;
  batch.has_fitted = fitted.has_value();
  if (fitted) batch.fitted = integer_matrix(*fitted, C);

  const int64_t D = batch.offsets.dialogues;
  const ScalarType real = batch.is_wide ? ScalarType::Double : ScalarType::Float;
  Tensor counts = call.empty({C, C}, ScalarType::Long);
  Tensor same = call.empty({D}, ScalarType::Long);
  Tensor cross = call.empty({D}, ScalarType::Long);
  Tensor num_speakers = call.empty({D}, ScalarType::Long);
  Tensor difficulty = call.empty({D}, real);
  Tensor surprisal = call.empty({T}, real);
  const int64_t table_bytes = C <= kClassesInTable ? 8 * C * C : 0;
  Tensor memory = call.workspace(8 * C + table_bytes + dialogue_offsets_bytes(batch.offsets));
  auto* work = static_cast<char*>(memory.mutable_data_ptr());
  batch.from_class = reinterpret_cast<double*>(work);
  if (table_bytes > 0) batch.table = work + 8 * C;

  batch.counts = static_cast<unsigned long long*>(counts.mutable_data_ptr());
  batch.same_speaker_shifts = static_cast<long long*>(same.mutable_data_ptr());
  batch.cross_speaker_shifts = static_cast<long long*>(cross.mutable_data_ptr());
  batch.speakers_of = static_cast<long long*>(num_speakers.mutable_data_ptr());
  batch.difficulty = difficulty.mutable_data_ptr();
  batch.surprisal = surprisal.mutable_data_ptr();
  call.zero(batch.counts, 8 * C * C);
  emotion_transitions_cuda(batch, work + 8 * C + table_bytes, call.stream());
  call.check_launches();
  return {counts, same, cross, num_speakers, difficulty, surprisal};
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("emotion_transitions", TORCH_BOX(&spcl::emotion_transitions_on_device));
}
