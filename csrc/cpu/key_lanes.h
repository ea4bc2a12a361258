// Vectors of keys (math/float_keys.h), for the instruction set being compiled (see cpu/every_isa.h).

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

#if SPCL_VECTOR_BYTES == 32
/// For every set of 8 lanes, a byte a lane: first the numbers of those in the set.
struct LaneOrders {
  uint64_t of[256];

  constexpr LaneOrders() : of() {
    for (unsigned set = 0; set < 256; ++set) {
      int written = 0;
      for (unsigned lane = 0; lane < 8; ++lane) {
        if (set >> lane & 1) of[set] |= static_cast<uint64_t>(lane) << 8 * written++;
      }
    }
  }
};
inline constexpr LaneOrders kOrders;
#endif

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

  /// Adds one in every lane of `counts` where `lanes` is at most `bound`.
  SPCL_HD static void tally(Vector& counts, Vector lanes, Key bound) {
#if SPCL_VECTOR_BYTES == 64
    const __m512i c = reinterpret_cast<__m512i>(counts);
    const unsigned inside = within(lanes, bound);
    if constexpr (sizeof(Key) == 4) {
      counts =
          reinterpret_cast<Vector>(_mm512_mask_sub_epi32(c, static_cast<__mmask16>(inside), c, _mm512_set1_epi32(-1)));
    } else {
      counts =
          reinterpret_cast<Vector>(_mm512_mask_sub_epi64(c, static_cast<__mmask8>(inside), c, _mm512_set1_epi64(-1)));
    }
#else
    counts -= (Vector)(lanes <= bound);
#endif
  }

  /// Whether a lane of `offset` is at most `width`.
  SPCL_HD static bool any(Vector offset, Key width) {
#if SPCL_VECTOR_BYTES == 64
    return within(offset, width) != 0;
#elif SPCL_VECTOR_BYTES == 32
    return _mm256_movemask_epi8(reinterpret_cast<__m256i>(offset <= width)) != 0;
#else
    uint64_t halves[2];
    const Vector inside = (Vector)(offset <= width);
    std::memcpy(halves, &inside, sizeof halves);
    return (halves[0] | halves[1]) != 0;
#endif
  }

  /// Writes those lanes of `kept` whose `offset` is at most `width`, one after the other; returns their number.
  /// May write a vector's length whatever that is.
  SPCL_HD static int append(Vector kept, Vector offset, Key width, Key* to) {
#if SPCL_VECTOR_BYTES == 64
    const unsigned inside = within(offset, width);
    const __m512i k = reinterpret_cast<__m512i>(kept);
    if constexpr (sizeof(Key) == 4) {
      _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(inside), k));
    } else {
      _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(inside), k));
    }
    return __builtin_popcount(inside);
#elif SPCL_VECTOR_BYTES == 32
    const int inside = _mm256_movemask_ps(reinterpret_cast<__m256>(offset <= width));
    const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(kOrders.of[inside])));
    const __m256i packed = _mm256_permutevar8x32_epi32(reinterpret_cast<__m256i>(kept), order);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), packed);
    return __builtin_popcount(static_cast<unsigned>(inside)) / static_cast<int>(sizeof(Key) / 4);
#else
    int appended = 0;
    for (int lane = 0; lane < count; ++lane) {
      to[appended] = kept[lane];
      appended += offset[lane] <= width;
    }
    return appended;
#endif
  }

  /// Writes a byte for each lane of a comparison: 1 where it holds, else 0.
  SPCL_HD static void store_flags(Vector holds, char* to) {
#if SPCL_VECTOR_BYTES == 32
    __m128i low = _mm256_castsi256_si128(reinterpret_cast<__m256i>(holds));
    __m128i high = _mm256_extracti128_si256(reinterpret_cast<__m256i>(holds), 1);
    if constexpr (sizeof(Key) == 8) {
      low = high = _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(low), _mm_castsi128_ps(high), 0x88));
    }
    const __m128i words = _mm_packs_epi32(low, high);
    const __m128i bytes = _mm_and_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(1));
    std::memcpy(to, &bytes, count);
#else
    typedef char Bytes __attribute__((vector_size(count)));
    const Bytes bytes = __builtin_convertvector(holds & 1, Bytes);
    std::memcpy(to, &bytes, sizeof bytes);
#endif
  }

  SPCL_HD static int64_t sum(Vector lanes) {
    int64_t total = 0;
    for (int lane = 0; lane < count; ++lane) total += static_cast<int64_t>(lanes[lane]);
    return total;
  }

#if SPCL_VECTOR_BYTES == 64
 private:
  SPCL_HD static unsigned within(Vector offset, Key width) {
    if constexpr (sizeof(Key) == 4) {
      return _mm512_cmple_epu32_mask(reinterpret_cast<__m512i>(offset), _mm512_set1_epi32(static_cast<int>(width)));
    } else {
      return _mm512_cmple_epu64_mask(reinterpret_cast<__m512i>(offset), _mm512_set1_epi64(static_cast<int64_t>(width)));
    }
  }
#endif
};

inline constexpr int64_t kKeyBlock = 2048;  // values that a kernel takes at a time

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
