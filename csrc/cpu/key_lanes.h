// Vectors of keys (math/float_keys.h), for the instruction set being compiled (see cpu/every_isa.h).

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

template <class Key>
struct KeyLanes {
  typedef Key Vector __attribute__((vector_size(SPCL_VECTOR_BYTES)));
  typedef std::make_signed_t<Key> Signed __attribute__((vector_size(SPCL_VECTOR_BYTES)));
  static constexpr int count = SPCL_VECTOR_BYTES / sizeof(Key);

  SPCL_HD static Vector load(const Key* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
  }

  /// Writes those lanes of `kept` whose `offset` is at most `width`, one after the other; returns their number.
  /// May write a vector's length whatever that is.
  SPCL_HD static int append(Vector kept, Vector offset, Key width, Key* to) {
#if SPCL_VECTOR_BYTES == 64
    const __m512i o = reinterpret_cast<__m512i>(offset), k = reinterpret_cast<__m512i>(kept);
    if constexpr (sizeof(Key) == 4) {
      const __mmask16 inside = _mm512_cmple_epu32_mask(o, _mm512_set1_epi32(static_cast<int>(width)));
      _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(inside, k));
      return __builtin_popcount(inside);
    } else {
      const __mmask8 inside = _mm512_cmple_epu64_mask(o, _mm512_set1_epi64(static_cast<int64_t>(width)));
      _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(inside, k));
      return __builtin_popcount(inside);
    }
#else
    int appended = 0;
    for (int lane = 0; lane < count; ++lane) {
      to[appended] = kept[lane];
      appended += offset[lane] <= width;
    }
    return appended;
#endif
  }

  SPCL_HD static int64_t sum(Vector lanes) {
    int64_t total = 0;
    for (int lane = 0; lane < count; ++lane) total += static_cast<int64_t>(lanes[lane]);
    return total;
  }
};

inline constexpr int64_t kKeyBlock = 2048;  // values that are looked at between two stores to memory

/// Calls body(keys) for every vector of the keys of the values [begin, end), at most kKeyBlock of them; the last
/// vector is filled up with NaN.
template <class Keys, class Body>
SPCL_HD void for_each_key_vector(const FloatRows& values, int64_t begin, int64_t end, const Body& body) {
  typedef typename Keys::Bits Bits;
  typedef typename Keys::Key Key;
  typedef KeyLanes<Key> Lanes;
  typedef Bits Stored __attribute__((vector_size(SPCL_VECTOR_BYTES / sizeof(Key) * sizeof(Bits))));
  const char* data = values.data + begin * values.row_stride;
  const int64_t count = end - begin;
  Bits copy[kKeyBlock];
  const bool in_place = values.row_stride == sizeof(Bits);
  const int64_t whole = in_place ? count / Lanes::count * Lanes::count : 0;
  for (int64_t i = 0; i < whole; i += Lanes::count) {
    Stored stored;
    std::memcpy(&stored, data + i * static_cast<int64_t>(sizeof(Bits)), sizeof stored);
    body(Keys::template key<typename Lanes::Vector>(__builtin_convertvector(stored, typename Lanes::Signed)));
  }
  if (whole == count) return;
  const int64_t rest = count - whole;
  for (int64_t i = 0; i < rest; ++i) copy[i] = load_as<Bits>(data + (whole + i) * values.row_stride);
  for (int64_t i = rest; i % Lanes::count != 0; ++i) copy[i] = Keys::bits(Keys::nan);
  for (int64_t i = 0; i < rest; i += Lanes::count) {
    Stored stored;
    std::memcpy(&stored, copy + i, sizeof stored);
    body(Keys::template key<typename Lanes::Vector>(__builtin_convertvector(stored, typename Lanes::Signed)));
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
