// Contiguous numbers of any type as vectors of float or double, and back, for the instruction set being compiled
// (see cpu/every_isa.h). Comes after cpu/lanes.h, which has no include guard.

namespace spcl {
namespace SPCL_ISA {

/// The type that numbers of type `Input` are computed in.
template <class Input>
struct Arithmetic {
  using Real = float;
};
template <>
struct Arithmetic<double> {
  using Real = double;
};

/// As many numbers of a type as a vector of their `Real` has lanes, as they lie in memory.
template <class Input>
struct Packed {
  static constexpr int lanes = Lanes<typename Arithmetic<Input>::Real>::count;
  typedef uint16_t Vector __attribute__((vector_size(lanes * 2)));
};
template <>
struct Packed<float> {
  using Vector = Lanes<float>::Vector;
};
template <>
struct Packed<double> {
  using Vector = Lanes<double>::Vector;
};

SPCL_HD Lanes<float>::Vector widen_packed(Lanes<float>::Vector values, float) { return values; }
SPCL_HD Lanes<double>::Vector widen_packed(Lanes<double>::Vector values, double) { return values; }
SPCL_HD Lanes<float>::Vector widen_packed(Packed<BFloat16>::Vector bits, BFloat16) {
  typedef uint32_t Words __attribute__((vector_size(SPCL_VECTOR_BYTES)));
#if SPCL_VECTOR_BYTES == 64
  const auto words = reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(0xFFFF, reinterpret_cast<__m256i>(bits)));
#elif SPCL_VECTOR_BYTES == 32
  const auto words = reinterpret_cast<Words>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(bits)));
#else
  const auto words = __builtin_convertvector(bits, Words);
#endif
  return reinterpret_cast<Lanes<float>::Vector>(words << 16);
}
SPCL_HD Lanes<float>::Vector widen_packed(Packed<Float16>::Vector bits, Float16) {
#if SPCL_VECTOR_BYTES == 64
  return reinterpret_cast<Lanes<float>::Vector>(_mm512_maskz_cvtph_ps(0xFFFF, reinterpret_cast<__m256i>(bits)));
#elif SPCL_VECTOR_BYTES == 32
  return reinterpret_cast<Lanes<float>::Vector>(_mm256_cvtph_ps(reinterpret_cast<__m128i>(bits)));
#else
  Lanes<float>::Vector values;
  for (int lane = 0; lane < Lanes<float>::count; ++lane) values[lane] = widen_bits(Float16{bits[lane]});
  return values;
#endif
}

/// `count` contiguous numbers at any address, 0 in the lanes past them; nothing past them is read.
template <class Input>
SPCL_HD typename Packed<Input>::Vector load_packed(const char* address, int count) {
  using Vector = typename Packed<Input>::Vector;
  constexpr int lanes = Lanes<typename Arithmetic<Input>::Real>::count;
  if (count == lanes) return load_as<Vector>(address);
#if SPCL_VECTOR_BYTES == 64
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (sizeof(Input) == 2) return reinterpret_cast<Vector>(_mm256_maskz_loadu_epi16(mask, address));
  if constexpr (sizeof(Input) == 4) return reinterpret_cast<Vector>(_mm512_maskz_loadu_ps(mask, address));
  if constexpr (sizeof(Input) == 8) {
    return reinterpret_cast<Vector>(_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), address));
  }
#else
  Vector vector{};
  for (int lane = 0; lane < count; ++lane) {
    using Number = std::remove_reference_t<decltype(vector[0])>;
    vector[lane] = load_as<Number>(address + lane * static_cast<int>(sizeof(Input)));
  }
  return vector;
#endif
}

/// The same as numbers to compute with.
template <class Input>
SPCL_HD typename Lanes<typename Arithmetic<Input>::Real>::Vector load_widened(const char* address, int count) {
  return widen_packed(load_packed<Input>(address, count), Input{});
}

/// Numbers to compute with as they are to lie in memory, rounded to nearest, ties to even.
SPCL_HD Lanes<float>::Vector narrow_lanes(Lanes<float>::Vector values, float) { return values; }
SPCL_HD Lanes<double>::Vector narrow_lanes(Lanes<double>::Vector values, double) { return values; }
SPCL_HD Packed<BFloat16>::Vector narrow_lanes(Lanes<float>::Vector values, BFloat16) {
  typedef uint32_t Words __attribute__((vector_size(SPCL_VECTOR_BYTES)));
  const Words bits = reinterpret_cast<Words>(values);
  const Words rounded = bits + 0x7FFF + (bits >> 16 & 1);
  const Words result = (values == values ? rounded : bits | 0x00400000) >> 16;
#if SPCL_VECTOR_BYTES == 64
  return reinterpret_cast<Packed<BFloat16>::Vector>(
      _mm512_maskz_cvtepi32_epi16(0xFFFF, reinterpret_cast<__m512i>(result)));
#elif SPCL_VECTOR_BYTES == 32
  const auto words = reinterpret_cast<__m256i>(result);
  return reinterpret_cast<Packed<BFloat16>::Vector>(
      _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
#else
  return __builtin_convertvector(result, Packed<BFloat16>::Vector);
#endif
}
SPCL_HD Packed<Float16>::Vector narrow_lanes(Lanes<float>::Vector values, Float16) {
  using Vector = Packed<Float16>::Vector;
#if SPCL_VECTOR_BYTES == 64
  return reinterpret_cast<Vector>(
      _mm512_maskz_cvtps_ph(0xFFFF, reinterpret_cast<__m512>(values), _MM_FROUND_TO_NEAREST_INT));
#elif SPCL_VECTOR_BYTES == 32
  return reinterpret_cast<Vector>(_mm256_cvtps_ph(reinterpret_cast<__m256>(values), _MM_FROUND_TO_NEAREST_INT));
#else
  Vector result;
  for (int lane = 0; lane < Lanes<float>::count; ++lane) result[lane] = narrow<Float16>(values[lane]).bits;
  return result;
#endif
}

/// Writes the first `count` lanes as numbers of type `Input`.
template <class Input>
SPCL_HD void store_narrowed(typename Lanes<typename Arithmetic<Input>::Real>::Vector values, int count, char* address) {
  const auto packed = narrow_lanes(values, Input{});
  if (count == Lanes<typename Arithmetic<Input>::Real>::count) {
    std::memcpy(address, &packed, sizeof packed);
  } else {
    std::memcpy(address, &packed, static_cast<size_t>(count) * sizeof(Input));
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
