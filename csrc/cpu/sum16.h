// The sum every total is made with, for the instruction set being compiled (see cpu/every_isa.h): float64 in 16
// lanes, whatever the registers hold. Value i goes to lane i % 16 and the lanes are added in one fixed order, so
// the width of the vectors changes no bit. Comes after cpu/lanes.h, which has no include guard.

namespace spcl {
namespace SPCL_ISA {

/// A vector of either width as vectors of float64.
struct AsDoubles {
  template <class Real>
  static constexpr int count = Lanes<Real>::count / Lanes<double>::count;
  Lanes<double>::Vector parts[2];

  SPCL_HD explicit AsDoubles(Lanes<double>::Vector values) : parts{values, values} {}
  SPCL_HD explicit AsDoubles(Lanes<float>::Vector values) {
    // The compiler would convert the wider vectors in quarters.
#if SPCL_VECTOR_BYTES == 64
    const auto all = reinterpret_cast<__m512>(values);
    const __m256 low = _mm512_maskz_extractf32x8_ps(0xFF, all, 0), high = _mm512_maskz_extractf32x8_ps(0xFF, all, 1);
    parts[0] = reinterpret_cast<Lanes<double>::Vector>(_mm512_maskz_cvtps_pd(0xFF, low));
    parts[1] = reinterpret_cast<Lanes<double>::Vector>(_mm512_maskz_cvtps_pd(0xFF, high));
#elif SPCL_VECTOR_BYTES == 32
    const auto all = reinterpret_cast<__m256>(values);
    parts[0] = reinterpret_cast<Lanes<double>::Vector>(_mm256_cvtps_pd(_mm256_castps256_ps128(all)));
    parts[1] = reinterpret_cast<Lanes<double>::Vector>(_mm256_cvtps_pd(_mm256_extractf128_ps(all, 1)));
#else
    for (int lane = 0; lane < Lanes<float>::count; ++lane) {
      parts[lane / Lanes<double>::count][lane % Lanes<double>::count] = values[lane];
    }
#endif
  }
};

/// The other way, rounded to nearest.
SPCL_HD Lanes<double>::Vector from_doubles(const Lanes<double>::Vector* parts, double) { return parts[0]; }
SPCL_HD Lanes<float>::Vector from_doubles(const Lanes<double>::Vector* parts, float) {
#if SPCL_VECTOR_BYTES == 64
  const __m256 low = _mm512_maskz_cvtpd_ps(0xFF, reinterpret_cast<__m512d>(parts[0]));
  const __m256 high = _mm512_maskz_cvtpd_ps(0xFF, reinterpret_cast<__m512d>(parts[1]));
  const __m512 first = _mm512_maskz_insertf32x8(0xFFFF, _mm512_setzero_ps(), low, 0);
  return reinterpret_cast<Lanes<float>::Vector>(_mm512_maskz_insertf32x8(0xFFFF, first, high, 1));
#elif SPCL_VECTOR_BYTES == 32
  const __m128 low = _mm256_cvtpd_ps(reinterpret_cast<__m256d>(parts[0]));
  const __m128 high = _mm256_cvtpd_ps(reinterpret_cast<__m256d>(parts[1]));
  return reinterpret_cast<Lanes<float>::Vector>(_mm256_set_m128(high, low));
#else
  Lanes<float>::Vector values;
  for (int lane = 0; lane < Lanes<float>::count; ++lane) {
    values[lane] = static_cast<float>(parts[lane / Lanes<double>::count][lane % Lanes<double>::count]);
  }
  return values;
#endif
}

struct Sum16 {
  using Doubles = Lanes<double>::Vector;
  static constexpr int per_vector = Lanes<double>::count;
  Doubles parts[16 / per_vector] = {};

  /// Adds a vector whose first lane is value `first`, a multiple of the vector's lanes.
  SPCL_HD void add(int64_t first, Lanes<double>::Vector values) { parts[first % 16 / per_vector] += values; }

  SPCL_HD void add(int64_t first, Lanes<float>::Vector values) {
    const AsDoubles doubles(values);
    const int64_t part = first % 16 / per_vector;
    parts[part] += doubles.parts[0];
    parts[part + 1] += doubles.parts[1];
  }

  /// Lane k takes lane k + 8, then k + 4, k + 2 and k + 1.
  double total() const {
    Doubles sums[16 / per_vector];
    std::memcpy(sums, parts, sizeof sums);
    for (int half = 16 / per_vector / 2; half > 0; half /= 2) {
      for (int part = 0; part < half; ++part) sums[part] += sums[part + half];
    }
    double lanes[per_vector];
    std::memcpy(lanes, sums, sizeof lanes);
    for (int width = per_vector / 2; width > 0; width /= 2) {
      for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    return lanes[0];
  }
};

/// How many lanes of how many masks were set.
template <class Real>
struct Tally {
  using Mask = typename Lanes<Real>::Mask;
  Mask lanes = {};

  SPCL_HD void add(Mask mask) { lanes -= mask; }  // a true lane is -1

  int64_t total() const {
    int64_t sum = 0;
    for (int lane = 0; lane < Lanes<Real>::count; ++lane) sum += lanes[lane];
    return sum;
  }
};

/// The first `count` values as a vector, `fill` in the other lanes; nothing past them is read.
template <class Real>
SPCL_HD typename Lanes<Real>::Vector load_lanes(const Real* values, int count, Real fill) {
  using Vector = typename Lanes<Real>::Vector;
  Vector vector = Vector{} + fill;
  if (count == Lanes<Real>::count) {
    std::memcpy(&vector, values, sizeof vector);
    return vector;
  }
#if SPCL_VECTOR_BYTES == 64
  if constexpr (sizeof(Real) == 4) {
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    return reinterpret_cast<Vector>(_mm512_mask_loadu_ps(reinterpret_cast<__m512>(vector), mask, values));
  }
#elif SPCL_VECTOR_BYTES == 32
  if constexpr (sizeof(Real) == 4) {
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m256 loaded = _mm256_maskload_ps(values, mask);
    return reinterpret_cast<Vector>(
        _mm256_blendv_ps(reinterpret_cast<__m256>(vector), loaded, _mm256_castsi256_ps(mask)));
  }
#endif
  for (int lane = 0; lane < count; ++lane) vector[lane] = values[lane];
  return vector;
}

template <class Real>
SPCL_HD void store_lanes(typename Lanes<Real>::Vector vector, int count, Real* values) {
  if (count == Lanes<Real>::count) {
    std::memcpy(values, &vector, sizeof vector);
    return;
  }
#if SPCL_VECTOR_BYTES == 64
  if constexpr (sizeof(Real) == 4) {
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    return _mm512_mask_storeu_ps(values, mask, reinterpret_cast<__m512>(vector));
  }
#endif
  for (int lane = 0; lane < count; ++lane) values[lane] = vector[lane];
}

/// Class numbers of up to a vector of rows, -1 in the other lanes.
template <class Real>
SPCL_HD typename Lanes<Real>::Mask lane_labels(const int32_t* labels, int count) {
  typename Lanes<Real>::Mask mask = {};
  mask = mask - 1;
  if constexpr (sizeof(Real) == sizeof(int32_t)) {
    if (count == Lanes<Real>::count) {
      std::memcpy(&mask, labels, sizeof mask);
      return mask;
    }
  }
  for (int lane = 0; lane < count; ++lane) mask[lane] = labels[lane];
  return mask;
}

/// Whether a lane of a comparison holds.
template <class Real>
SPCL_HD bool any_lane(typename Lanes<Real>::Mask mask) {
#if SPCL_VECTOR_BYTES == 64
  if constexpr (sizeof(Real) == 4) return _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask)) != 0;
#elif SPCL_VECTOR_BYTES == 32
  if constexpr (sizeof(Real) == 4) return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) != 0;
#endif
  bool any = false;
  for (int lane = 0; lane < Lanes<Real>::count; ++lane) any |= mask[lane] != 0;
  return any;
}

/// Sum and number of the values that are not NaN.
struct SumOfKnown {
  double total;
  int64_t count;
};

template <class Real>
SumOfKnown sum_of_known(const Real* values, int64_t count) {
  constexpr int lanes = Lanes<Real>::count;
  using Vector = typename Lanes<Real>::Vector;
  Sum16 sum;
  Tally<Real> known;
  for (int64_t i = 0; i < count; i += 16) {
#pragma GCC unroll 8
    for (int part = 0; part < 16; part += lanes) {  // known to the compiler, which keeps the sums in registers
      const int64_t rest = count - i - part;
      if (rest <= 0) break;
      const int here = rest < lanes ? static_cast<int>(rest) : lanes;
      const Vector x = load_lanes(values + i + part, here, static_cast<Real>(__builtin_nan("")));
      sum.add(part, x == x ? x : Vector{});
      known.add(x == x);
    }
  }
  return {sum.total(), known.total()};
}

}  // namespace SPCL_ISA
}  // namespace spcl
