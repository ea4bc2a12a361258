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

/// Both of the above for rows of one number of classes; whole blocks of contiguous float32 go by permutations.
template <class Input, class Real>
class RowTiles {
 public:
  explicit RowTiles(int64_t) {}

  void read(const char* rows, int64_t row_stride, int64_t class_stride, int count, int64_t classes,
            Real (*tile)[Lanes<Real>::count]) const {
    read_tile<Input, Real>(rows, row_stride, class_stride, count, classes, tile);
  }
  void write(const Real (*tile)[Lanes<Real>::count], int count, int64_t classes, Real* rows) const {
    write_rows<Real>(tile, count, classes, rows);
  }
};

#if SPCL_VECTOR_BYTES == 64

/// 16 rows of C classes are C registers. Number i C + c of them is lane i of class c: one permutation for each
/// pair of registers finds the lanes that lie there.
template <>
class RowTiles<float, float> {
 public:
  static constexpr int64_t most = 16;  // classes that fit the tables

  explicit RowTiles(int64_t classes) : classes_(classes) {
    if (classes > most) return;
    const int C = static_cast<int>(classes);
    for (int c = 0; c < C; ++c) {
      for (int lane = 0; lane < 16; ++lane) {
        const int number = lane * C + c;
        from_[c][lane] = number % 32;
        pair_[c][number / 32] |= static_cast<uint16_t>(1u << lane);
        const int target = c * 16 + lane;  // register c of the rows
        to_[c][lane] = target / C;
        class_[c][target % C] |= static_cast<uint16_t>(1u << lane);
      }
    }
  }

  void read(const char* rows, int64_t row_stride, int64_t class_stride, int count, int64_t classes,
            float (*tile)[16]) const {
    const bool is_block = count == 16 && classes == classes_ && classes <= most && class_stride == sizeof(float) &&
                          row_stride == classes * static_cast<int64_t>(sizeof(float));
    if (is_block) return read_block(reinterpret_cast<const float*>(rows), tile);
    constexpr int64_t reach = INT32_MAX / 16;
    if (row_stride > reach || row_stride < -reach) {
      return read_tile<float, float>(rows, row_stride, class_stride, count, classes, tile);
    }
    __m512i offsets;
    for (int lane = 0; lane < 16; ++lane) {
      reinterpret_cast<int32_t*>(&offsets)[lane] = static_cast<int32_t>((lane < count ? lane : count - 1) * row_stride);
    }
    for (int64_t c = 0; c < classes; ++c) {
      _mm512_store_ps(tile[c],
                      _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xFFFF, offsets, rows + c * class_stride, 1));
    }
  }

  void write(const float (*tile)[16], int count, int64_t classes, float* rows) const {
    if (count != 16 || classes > most) return write_rows<float>(tile, count, classes, rows);
    for (int64_t r = 0; r < classes; ++r) {
      const __m512i lanes = _mm512_load_si512(to_[r]);
      __m512 numbers = _mm512_setzero_ps();
      for (int64_t c = 0; c < classes; ++c) {
        numbers = _mm512_mask_permutexvar_ps(numbers, class_[r][c], lanes, _mm512_load_ps(tile[c]));
      }
      _mm512_storeu_ps(rows + 16 * r, numbers);
    }
  }

 private:
  void read_block(const float* rows, float (*tile)[16]) const {
    // Four blocks ahead, which nothing needs to exist for: with M streams of rows the processor's own guess is late.
    for (int64_t c = 0; c < classes_; ++c) __builtin_prefetch(rows + 16 * (4 * classes_ + c));
    const int64_t pairs = classes_ / 2;
    for (int64_t c = 0; c < classes_; ++c) {
      const __m512i lanes = _mm512_load_si512(from_[c]);
      __m512 numbers = _mm512_setzero_ps();
      for (int64_t p = 0; p < pairs; ++p) {
        const __m512 low = _mm512_loadu_ps(rows + 32 * p), high = _mm512_loadu_ps(rows + 32 * p + 16);
        numbers = _mm512_mask_mov_ps(numbers, pair_[c][p], _mm512_permutex2var_ps(low, lanes, high));
      }
      if (classes_ % 2 != 0) {
        const __m512 last = _mm512_loadu_ps(rows + 32 * pairs);
        numbers = _mm512_mask_permutexvar_ps(numbers, pair_[c][pairs], lanes, last);
      }
      _mm512_store_ps(tile[c], numbers);
    }
  }

  int64_t classes_;
  alignas(64) int32_t from_[most][16];  // [class][lane] -> place in a pair of registers
  alignas(64) int32_t to_[most][16];    // [register][place] -> row
  uint16_t pair_[most][most / 2] = {};  // [class][pair] -> lanes that lie in it
  uint16_t class_[most][most] = {};     // [register][class] -> places that hold it
};

#endif

}  // namespace SPCL_ISA
}  // namespace spcl
