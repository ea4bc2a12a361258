// The labels of a range of utterances, for the instruction set being compiled (see cpu/every_isa.h).

namespace spcl {
namespace SPCL_ISA {

/// `read(i)` is the label of utterance i of the range.
template <class Read>
SPCL_HD int64_t decode_labels(const StepBatch& batch, int64_t count, int32_t* labels, const Read& read) {
  const int64_t num_classes = batch.num_classes, ignore_index = batch.ignore_index;
  int64_t bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t y = read(i);
    const bool is_class = static_cast<uint64_t>(y) < static_cast<uint64_t>(num_classes);
    const bool is_ignored = y == ignore_index;
    labels[i] = is_class & !is_ignored ? static_cast<int32_t>(y) : -1;
    bad += !is_class & !is_ignored;
  }
  return bad;
}

/// Labels as class numbers, -1 for what names none; returns how many are neither a class nor `ignore_index`.
inline int64_t step_labels(const StepBatch& batch, int64_t begin, int64_t end, int32_t* labels) {
  const char* data = batch.labels + begin * batch.labels_stride;
  if (batch.labels_type == IntegerType::kInt64 && batch.labels_stride == sizeof(int64_t)) {
    return decode_labels(batch, end - begin, labels,
                         [&](int64_t i) { return load_as<int64_t>(data + i * static_cast<int64_t>(sizeof(int64_t))); });
  }
  return decode_labels(batch, end - begin, labels,
                       [&](int64_t i) { return load_integer(batch.labels_type, data + i * batch.labels_stride); });
}

int64_t step_candidates(const StepBatch& batch, int64_t begin, int64_t end, int32_t* labels) {
  step_labels(batch, begin, end, labels);
  int64_t candidates = 0;
  if (batch.present == nullptr) {
    for (int64_t t = 0; t < end - begin; ++t) candidates += labels[t] >= 0;
    return candidates;
  }
  for (int64_t t = begin; t < end; ++t) {
    bool has_any = false;
    for (int64_t m = 0; !has_any && m < batch.modalities; ++m) {
      has_any = batch.present[m * batch.present_modality_stride + t * batch.present_stride] != 0;
    }
    candidates += labels[t - begin] >= 0 && has_any;
  }
  return candidates;
}

}  // namespace SPCL_ISA
}  // namespace spcl
