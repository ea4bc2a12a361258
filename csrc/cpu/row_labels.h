// The labels of a block of rows, one a lane, for the instruction set being compiled (see cpu/every_isa.h). Comes after
// cpu/lanes.h, which has no include guard.

namespace spcl {
namespace SPCL_ISA {

/// The class of each of `count` rows; -1 where there is nothing to score and in the lanes past them.
///
/// Returns false when that is every lane.
template <class Real>
bool find_labels(const ModalityScoresRows& rows, int64_t begin, int count, typename Lanes<Real>::Mask& label) {
  constexpr int lanes = Lanes<Real>::count;
  const char* data = rows.labels + begin * rows.labels_stride;
  int64_t read[lanes];
  const bool in_place = rows.labels_type == IntegerType::kInt64 && rows.labels_stride == sizeof(int64_t) &&
                        rows.present == nullptr && count == lanes;
  for (int lane = 0; !in_place && lane < lanes; ++lane) {
    const int64_t t = begin + lane;
    const bool is_there = lane < count && (rows.present == nullptr || rows.present[t * rows.present_stride] != 0);
    read[lane] = is_there ? load_integer(rows.labels_type, data + lane * rows.labels_stride) : -1;
  }

  using Wide = Lanes<double>::Mask;  // as many labels as a vector holds
  typedef typename Lanes<Real>::Index Narrow
      __attribute__((vector_size(Lanes<double>::count * sizeof(typename Lanes<Real>::Index))));
  Wide all_none = Wide{} - 1;
  for (int lane = 0; lane < lanes; lane += Lanes<double>::count) {
    Wide y;
    std::memcpy(&y, in_place ? data + lane * sizeof(int64_t) : reinterpret_cast<const char*>(read + lane), sizeof y);
    y = (y >= 0) & (y < rows.num_classes) & (y != rows.ignore_index) ? y : Wide{} - 1;
    all_none &= y;
    const Narrow classes = __builtin_convertvector(y, Narrow);
    std::memcpy(reinterpret_cast<char*>(&label) + lane * sizeof(typename Lanes<Real>::Index), &classes, sizeof classes);
  }
  bool any = false;
  for (int lane = 0; lane < Lanes<double>::count; ++lane) any |= all_none[lane] != -1;
  return any;
}

}  // namespace SPCL_ISA
}  // namespace spcl
