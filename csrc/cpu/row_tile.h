// Rows of logits into vectors of one class each, and back, for the instruction set being compiled: the one place
// where a kernel touches a row (see cpu/every_isa.h). Comes after cpu/lanes.h, which has no include guard.
//
// Where a vector is 16 bytes a time, it is the piece of a row that holds four classes: a vector of pieces has rows
// i, i + 4, i + 8 ... in it, and four of them turn into four classes within their 16 bytes. The last piece of a row
// is its last four classes, so that nothing outside the row is touched, whatever lies there.

namespace spcl {
namespace SPCL_ISA {

/// Classes read at a time. Rows with more of them are read in several tiles.
inline constexpr int64_t kTileClasses = 64;

/// Kernels are compiled for up to this many classes with the loops over them unrolled, the vectors in registers.
inline constexpr int kMostUnrolled = 8;

/// Calls `run` with the number of classes as a constant where kernels are unrolled for it, else with 0.
template <class Run>
SPCL_HD void with_classes(int64_t num_classes, const Run& run) {
#if defined(SPCL_POISON)
  // The sanitizers take minutes for each: one stands for all.
  if (num_classes == 7) return run(std::integral_constant<int, 7>());
  return run(std::integral_constant<int, 0>());
#endif
  switch (num_classes) {
    case 2:
      return run(std::integral_constant<int, 2>());
    case 3:
      return run(std::integral_constant<int, 3>());
    case 4:
      return run(std::integral_constant<int, 4>());
    case 5:
      return run(std::integral_constant<int, 5>());
    case 6:
      return run(std::integral_constant<int, 6>());
    case 7:
      return run(std::integral_constant<int, 7>());
    case kMostUnrolled:
      return run(std::integral_constant<int, kMostUnrolled>());
    default:
      return run(std::integral_constant<int, 0>());
  }
}

/// Whether rows of `Input` go by pieces: there is an instruction set for it, and four classes to a piece.
template <class Input, class Real>
SPCL_HD bool goes_by_pieces([[maybe_unused]] int64_t classes) {
#if SPCL_VECTOR_BYTES >= 32
  if constexpr (sizeof(Real) == sizeof(float)) return classes >= 4 || (sizeof(Input) == sizeof(float) && classes > 1);
#endif
  return false;
}

#if SPCL_VECTOR_BYTES >= 32

typedef Lanes<float>::Vector Floats;

/// Four floats; of a row with fewer than four classes those that there are, and zeros.
SPCL_HD __m128 load_piece(const char* row, int64_t classes) {
  const float* address = reinterpret_cast<const float*>(row);
  if (classes >= 4) return _mm_loadu_ps(address);
  return _mm_maskload_ps(address, _mm_setr_epi32(-1, -1, classes > 2 ? -1 : 0, 0));
}

/// Four halves of each of two rows, as their bits.
SPCL_HD __m128i load_halves(const char* row, int64_t distance) {
  return _mm_insert_epi64(_mm_cvtsi64_si128(load_as<int64_t>(row)), load_as<int64_t>(row + distance), 1);
}

#if SPCL_VECTOR_BYTES == 64

/// The pieces of four rows that lie `distance` bytes apart.
template <class Input>
SPCL_HD __m512 load_pieces(const char* row, int64_t distance, int64_t classes) {
  if constexpr (sizeof(Input) == 4) {
    const __m256 low = _mm256_set_m128(load_piece(row + distance, classes), load_piece(row, classes));
    const __m256 high =
        _mm256_set_m128(load_piece(row + 3 * distance, classes), load_piece(row + 2 * distance, classes));
    return _mm512_maskz_insertf32x8(0xFFFF, _mm512_castps256_ps512(low), high, 1);
  } else {
    const __m256i bits = _mm256_set_m128i(load_halves(row + 2 * distance, distance), load_halves(row, distance));
    if constexpr (std::is_same_v<Input, Float16>) return _mm512_maskz_cvtph_ps(0xFFFF, bits);
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xFFFF, _mm512_maskz_cvtepu16_epi32(0xFFFF, bits), 16));
  }
}

SPCL_HD void turn_pieces(__m512 (&x)[4]) {
  const __m512 low01 = _mm512_maskz_unpacklo_ps(0xFFFF, x[0], x[1]),
               high01 = _mm512_maskz_unpackhi_ps(0xFFFF, x[0], x[1]);
  const __m512 low23 = _mm512_maskz_unpacklo_ps(0xFFFF, x[2], x[3]),
               high23 = _mm512_maskz_unpackhi_ps(0xFFFF, x[2], x[3]);
  x[0] = _mm512_maskz_shuffle_ps(0xFFFF, low01, low23, 0x44);
  x[1] = _mm512_maskz_shuffle_ps(0xFFFF, low01, low23, 0xEE);
  x[2] = _mm512_maskz_shuffle_ps(0xFFFF, high01, high23, 0x44);
  x[3] = _mm512_maskz_shuffle_ps(0xFFFF, high01, high23, 0xEE);
}

SPCL_HD void store_pieces(__m512 pieces, int64_t distance, float* row) {
  _mm_storeu_ps(row, _mm512_castps512_ps128(pieces));
  _mm_storeu_ps(row + distance, _mm512_maskz_extractf32x4_ps(0xF, pieces, 1));
  _mm_storeu_ps(row + 2 * distance, _mm512_maskz_extractf32x4_ps(0xF, pieces, 2));
  _mm_storeu_ps(row + 3 * distance, _mm512_maskz_extractf32x4_ps(0xF, pieces, 3));
}

using PieceVector = __m512;

#else

template <class Input>
SPCL_HD __m256 load_pieces(const char* row, int64_t distance, int64_t classes) {
  if constexpr (sizeof(Input) == 4) {
    return _mm256_set_m128(load_piece(row + distance, classes), load_piece(row, classes));
  } else {
    const __m128i bits = load_halves(row, distance);
    if constexpr (std::is_same_v<Input, Float16>) return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
}

SPCL_HD void turn_pieces(__m256 (&x)[4]) {
  const __m256 low01 = _mm256_unpacklo_ps(x[0], x[1]), high01 = _mm256_unpackhi_ps(x[0], x[1]);
  const __m256 low23 = _mm256_unpacklo_ps(x[2], x[3]), high23 = _mm256_unpackhi_ps(x[2], x[3]);
  x[0] = _mm256_shuffle_ps(low01, low23, 0x44);
  x[1] = _mm256_shuffle_ps(low01, low23, 0xEE);
  x[2] = _mm256_shuffle_ps(high01, high23, 0x44);
  x[3] = _mm256_shuffle_ps(high01, high23, 0xEE);
}

SPCL_HD void store_pieces(__m256 pieces, int64_t distance, float* row) {
  _mm_storeu_ps(row, _mm256_castps256_ps128(pieces));
  _mm_storeu_ps(row + distance, _mm256_extractf128_ps(pieces, 1));
}

using PieceVector = __m256;

#endif
#endif

/// Reads `classes` classes of `count` rows, number by number; the lanes past the last row repeat it.
template <class Input, class Real>
void read_numbers(const char* rows, int64_t row_stride, int64_t class_stride, int count, int64_t classes,
                  typename Lanes<Real>::Vector* values) {
  for (int lane = 0; lane < Lanes<Real>::count; ++lane) {
    const char* address = rows + (lane < count ? lane : count - 1) * row_stride;
    for (int64_t c = 0; c < classes; ++c) {
      reinterpret_cast<Real*>(values + c)[lane] = static_cast<Real>(widen(load_as<Input>(address + c * class_stride)));
    }
  }
}

/// The same for a block of rows, the fastest way. `Fixed` is the number of classes, or 0 for up to kTileClasses.
template <class Input, class Real, int Fixed>
SPCL_HD void read_rows(const char* rows, int64_t row_stride, int64_t class_stride, int count, int64_t classes,
                       typename Lanes<Real>::Vector* values) {
#if SPCL_VECTOR_BYTES >= 32
  constexpr int lanes = Lanes<Real>::count;
  if (goes_by_pieces<Input, Real>(classes) && count == lanes && class_stride == sizeof(Input)) {
    if (row_stride == classes * static_cast<int64_t>(sizeof(Input))) {
      // Four blocks ahead, which nothing needs to exist for: with M streams of rows the processor's guess is late.
      for (int64_t k = 0; k < lanes * row_stride; k += 64) __builtin_prefetch(rows + 4 * lanes * row_stride + k);
    }
#pragma GCC unroll 2
    for (int64_t c = 0; c < classes; c += 4) {
      const int64_t first = c + 4 <= classes || classes < 4 ? c : classes - 4;
      const char* piece = rows + first * static_cast<int64_t>(sizeof(Input));
      PieceVector x[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) x[i] = load_pieces<Input>(piece + i * row_stride, 4 * row_stride, classes);
      turn_pieces(x);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        if (first + k < classes) values[first + k] = reinterpret_cast<typename Lanes<Real>::Vector>(x[k]);
      }
    }
    return;
  }
#endif
  // Apart from `values`, which then can be registers.
  typename Lanes<Real>::Vector numbers[Fixed > 0 ? Fixed : kTileClasses];
  read_numbers<Input, Real>(rows, row_stride, class_stride, count, classes, numbers);
#pragma GCC unroll 8
  for (int64_t c = 0; c < classes; ++c) values[c] = numbers[c];
}

/// Writes lane k of `classes` vectors as row k of a contiguous [count, classes] array.
template <class Real>
SPCL_HD void write_rows(const typename Lanes<Real>::Vector* values, int count, int64_t classes, Real* rows) {
#if SPCL_VECTOR_BYTES >= 32
  constexpr int lanes = Lanes<Real>::count;
  if (goes_by_pieces<Real, Real>(classes) && classes >= 4 && count == lanes) {
#pragma GCC unroll 2
    for (int64_t c = 0; c < classes; c += 4) {
      const int64_t first = c + 4 <= classes ? c : classes - 4;
      PieceVector x[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) x[k] = reinterpret_cast<PieceVector>(values[first + k]);
      turn_pieces(x);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) store_pieces(x[i], 4 * classes, reinterpret_cast<float*>(rows) + i * classes + first);
    }
    return;
  }
#endif
#pragma GCC unroll 8
  for (int64_t c = 0; c < classes; ++c) {
    for (int lane = 0; lane < count; ++lane) rows[lane * classes + c] = values[c][lane];
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
