// The kernel, for the instruction set being compiled (see cpu/every_isa.h).

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

/// `read(i)` is the label of row i of the range.
template <class Read>
SPCL_HD int64_t decode_labels(const LabelRows& labels, int64_t count, int32_t* classes, const Read& read) {
  const int64_t num_classes = labels.num_classes, ignore_index = labels.ignore_index;
  int64_t bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t y = read(i);
    const bool is_class = static_cast<uint64_t>(y) < static_cast<uint64_t>(num_classes);
    const bool is_ignored = y == ignore_index;
    classes[i] = is_class & !is_ignored ? static_cast<int32_t>(y) : -1;
    bad += !is_class & !is_ignored;
  }
  return bad;
}

int64_t class_labels(const LabelRows& labels, int64_t begin, int64_t end, int32_t* classes) {
  const char* data = labels.data + begin * labels.stride;
  if (labels.type == IntegerType::kInt64 && labels.stride == sizeof(int64_t)) {
    return decode_labels(labels, end - begin, classes,
                         [&](int64_t i) { return load_as<int64_t>(data + i * static_cast<int64_t>(sizeof(int64_t))); });
  }
  if (labels.type == IntegerType::kInt32 && labels.stride == sizeof(int32_t)) {
    return decode_labels(labels, end - begin, classes, [&](int64_t i) {
      return static_cast<int64_t>(load_as<int32_t>(data + i * static_cast<int64_t>(sizeof(int32_t))));
    });
  }
  return decode_labels(labels, end - begin, classes,
                       [&](int64_t i) { return load_integer(labels.type, data + i * labels.stride); });
}

}  // namespace SPCL_ISA
}  // namespace spcl
