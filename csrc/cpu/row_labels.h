// The labels of a block of rows, one a lane, for the instruction set being compiled (see cpu/every_isa.h). Comes after
// cpu/lanes.h, which has no include guard.

namespace spcl {
namespace SPCL_ISA {

/// The class of each of `count` rows; -1 where there is nothing to score and in the lanes past them.
///
/// Returns false when that is every lane.
template <class Real>
bool find_labels(const ModalityScoresRows& rows, int64_t begin, int count, typename Lanes<Real>::Mask& label) {
  const char* data = rows.labels + begin * rows.labels_stride;
  label = typename Lanes<Real>::Mask{} - 1;
  bool any = false;
  const auto keep = [&](int lane, int64_t y) {
    const bool is_class = static_cast<uint64_t>(y) < static_cast<uint64_t>(rows.num_classes);
    const bool is_scored = is_class & (y != rows.ignore_index);
    label[lane] = is_scored ? static_cast<typename Lanes<Real>::Index>(y) : -1;
    any |= is_scored;
  };
  if (rows.labels_type == IntegerType::kInt64 && rows.present == nullptr) {
    for (int lane = 0; lane < count; ++lane) keep(lane, load_as<int64_t>(data + lane * rows.labels_stride));
    return any;
  }
  for (int lane = 0; lane < count; ++lane) {
    if (rows.present != nullptr && rows.present[(begin + lane) * rows.present_stride] == 0) continue;
    keep(lane, load_integer(rows.labels_type, data + lane * rows.labels_stride));
  }
  return any;
}

}  // namespace SPCL_ISA
}  // namespace spcl
