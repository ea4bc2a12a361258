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
  return reinterpret_cast<Lanes<float>::Vector>(__builtin_convertvector(bits, Words) << 16);
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

/// Writes the first `count` lanes as numbers of type `Input`, rounded to nearest.
template <class Input>
SPCL_HD void store_narrowed(typename Lanes<typename Arithmetic<Input>::Real>::Vector values, int count, char* address) {
#if SPCL_VECTOR_BYTES > 16
  if constexpr (std::is_same_v<Input, Float16>) {
#if SPCL_VECTOR_BYTES == 64
    const __m256i bits = _mm512_maskz_cvtps_ph(0xFFFF, reinterpret_cast<__m512>(values), _MM_FROUND_TO_NEAREST_INT);
#else
    const __m128i bits = _mm256_cvtps_ph(reinterpret_cast<__m256>(values), _MM_FROUND_TO_NEAREST_INT);
#endif
    std::memcpy(address, &bits, static_cast<size_t>(count) * sizeof(Input));
    return;
  }
#endif
  constexpr int lanes = Lanes<typename Arithmetic<Input>::Real>::count;
  Input numbers[lanes];
  for (int lane = 0; lane < lanes; ++lane) narrow_bits(values[lane], numbers[lane]);
  std::memcpy(address, numbers, static_cast<size_t>(count) * sizeof(Input));
}

}  // namespace SPCL_ISA
}  // namespace spcl
