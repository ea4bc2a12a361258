// Rows of logits into vectors of one class each, and back, for the instruction set being compiled: the one place
// where a kernel touches a row (see cpu/every_isa.h). Comes after cpu/lanes.h, which has no include guard.

namespace spcl {
namespace SPCL_ISA {

/// Classes read at a time. Rows with more of them are read in several tiles.
inline constexpr int64_t kTileClasses = 64;

template <class Real>
struct alignas(SPCL_VECTOR_BYTES) Tile {
  using Vector = typename Lanes<Real>::Vector;
  Real values[kTileClasses][Lanes<Real>::count];

  SPCL_HD Vector at(int64_t c) const { return *reinterpret_cast<const Vector*>(values[c]); }
};

/// Reads `classes` classes of `count` rows; row k becomes lane k, and the lanes past the last row repeat it.
template <class Input, class Real>
void read_tile(const char* rows, int64_t row_stride, int64_t class_stride, int count, int64_t classes,
               Real (*tile)[Lanes<Real>::count]) {
  for (int lane = 0; lane < Lanes<Real>::count; ++lane) {
    const char* address = rows + (lane < count ? lane : count - 1) * row_stride;
    for (int64_t c = 0; c < classes; ++c) {
      tile[c][lane] = static_cast<Real>(widen(load_as<Input>(address + c * class_stride)));
    }
  }
}

/// Writes lane k of `classes` vectors as row k of a contiguous [count, classes] array.
template <class Real>
void write_rows(const Real (*tile)[Lanes<Real>::count], int count, int64_t classes, Real* rows) {
  for (int lane = 0; lane < count; ++lane) {
    for (int64_t c = 0; c < classes; ++c) rows[lane * classes + c] = tile[c][lane];
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
