// Vectors of lanes and their exp and log, for the instruction set being compiled (see cpu/every_isa.h).
//
// The compiler contracts nothing: a lane holds, bit for bit, what a plain loop would compute, at every width.
// Products are fused with sums where exp and log say so, and only where there are instructions for it, so the
// baseline may differ from the others in the last bits. The polynomial of log is that of Cephes' logf; that of exp is
// the minimax one of degree 6 (relative error 3e-9 between -log(2)/2 and log(2)/2), its first two coefficients being 1.

#include "math/portable.h"

namespace spcl {
namespace SPCL_ISA {

template <class Real>
struct Lanes;

template <>
struct Lanes<float> {
  typedef float Vector __attribute__((vector_size(SPCL_VECTOR_BYTES)));
  typedef int32_t Mask __attribute__((vector_size(SPCL_VECTOR_BYTES)));
  typedef int32_t Index;
  static constexpr int count = SPCL_VECTOR_BYTES / sizeof(float);

  /// a > b ? a : b, one instruction where the compiler would take two: NaN in `a` gives b.
  SPCL_HD static Vector larger(Vector a, Vector b) {
#if SPCL_VECTOR_BYTES == 64
    return reinterpret_cast<Vector>(
        _mm512_maskz_max_ps(0xFFFF, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#elif SPCL_VECTOR_BYTES == 32
    return reinterpret_cast<Vector>(_mm256_max_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b)));
#else
    return a > b ? a : b;
#endif
  }

  /// a b + c, rounded once where the instruction set can.
  SPCL_HD static Vector multiply_add(Vector a, Vector b, Vector c) {
#if SPCL_VECTOR_BYTES == 64
    return reinterpret_cast<Vector>(
        _mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif SPCL_VECTOR_BYTES == 32
    return reinterpret_cast<Vector>(
        _mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#else
    return a * b + c;
#endif
  }
  SPCL_HD static Vector multiply_add(Vector a, float b, float c) { return multiply_add(a, Vector{} + b, Vector{} + c); }
  SPCL_HD static Vector multiply_add(Vector a, Vector b, float c) { return multiply_add(a, b, Vector{} + c); }
  SPCL_HD static Vector multiply_add(Vector a, float b, Vector c) { return multiply_add(a, Vector{} + b, c); }

  SPCL_HD static Vector sqrt(Vector x) {
#if SPCL_VECTOR_BYTES == 64
    return reinterpret_cast<Vector>(_mm512_maskz_sqrt_ps(0xFFFF, reinterpret_cast<__m512>(x)));
#elif SPCL_VECTOR_BYTES == 32
    return reinterpret_cast<Vector>(_mm256_sqrt_ps(reinterpret_cast<__m256>(x)));
#else
    for (int lane = 0; lane < count; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
    return x;
#endif
  }

  /// x, or -104 where x is smaller: exp(-104) rounds to zero. NaN stays NaN.
  SPCL_HD static Vector bounded(Vector x) { return larger(Vector{} - 104.0f, x); }

  /// exp(x) for x <= 0, gradual underflow included; exp(0) is exactly 1, NaN stays NaN.
  SPCL_HD static Vector exp(Vector x) {
    const Exponential parts(bounded(x));
    return times_power_of_two(parts.p, parts.n, parts.shifted);
  }

  /// The same for x >= -87, where nothing underflows, in fewer instructions.
  SPCL_HD static Vector exp_of_near(Vector x) {
    const Exponential parts(x);
#if SPCL_VECTOR_BYTES == 64
    return times_power_of_two(parts.p, parts.n, parts.shifted);
#else
    return reinterpret_cast<Vector>(reinterpret_cast<Mask>(parts.p) + (reinterpret_cast<Mask>(parts.shifted) << 23));
#endif
  }

  /// log(x) for every x that is a normal number above 0; log(1) is exactly 0, NaN stays NaN.
  SPCL_HD static Vector log(Vector x) {
    // x = 2^n m with m in [sqrt(1/2), sqrt(2)).
    const Mask bits = reinterpret_cast<Mask>(x) - 0x3F3504F3;
    const Vector n = __builtin_convertvector(bits >> 23, Vector);
    const Vector m = reinterpret_cast<Vector>((bits & 0x007FFFFF) + 0x3F3504F3);
    const Vector f = m - 1.0f;
    const Vector f2 = f * f;
    Vector p = multiply_add(f, 7.0376836292e-2f, -1.1514610310e-1f);
    p = multiply_add(p, f, 1.1676998740e-1f);
    p = multiply_add(p, f, -1.2420140846e-1f);
    p = multiply_add(p, f, 1.4249322787e-1f);
    p = multiply_add(p, f, -1.6668057665e-1f);
    p = multiply_add(p, f, 2.0000714765e-1f);
    p = multiply_add(p, f, -2.4999993993e-1f);
    p = multiply_add(p, f, 3.3333331174e-1f);
    const Vector tail = multiply_add(f2, -0.5f, multiply_add(n, -2.12194440e-4f, p * f * f2));
    return x == x ? multiply_add(n, 0.693359375f, f + tail) : x;
  }

 private:
  static constexpr float round_to_integer = 0x1.8p23f;  // adding it leaves no bit below one

  /// exp(x) = p 2^n; `shifted` is n + round_to_integer, whose last bits are those of n.
  struct Exponential {
    Vector p, n, shifted;

    SPCL_HD explicit Exponential(Vector x) {
      shifted = multiply_add(x, 1.44269504088896341f, round_to_integer);
      n = shifted - round_to_integer;
#if SPCL_VECTOR_BYTES >= 32
      const Vector r = multiply_add(n, -0.693147180559945309f, x);  // exact but for the constant: n times 2e-9
#else
      const Vector r = n * 2.12194440e-4f + (n * -0.693359375f + x);
#endif
      p = multiply_add(r, 0x1.6a244cp-10f, 0x1.1239d4p-7f);
      p = multiply_add(p, r, 0x1.5558f2p-5f);
      p = multiply_add(p, r, 0x1.555492p-3f);
      p = multiply_add(p, r, 0x1.fffffcp-2f);
      p = multiply_add(p, r, 1.0f);
      p = multiply_add(p, r, 1.0f);
    }
  };

  /// p 2^n, rounded once; `shifted` is n + round_to_integer.
  SPCL_HD static Vector times_power_of_two(Vector p, [[maybe_unused]] Vector n, [[maybe_unused]] Vector shifted) {
#if SPCL_VECTOR_BYTES == 64
    return reinterpret_cast<Vector>(
        _mm512_maskz_scalef_ps(0xFFFF, reinterpret_cast<__m512>(p), reinterpret_cast<__m512>(n)));
#else
    // 2^n in two factors, of which the first is exact: below 2^-126 one factor would not be a normal number.
    const Mask exponent = reinterpret_cast<Mask>(shifted) - 0x4B400000;
    const Mask half = exponent >> 1;
    return p * power_of_two(half) * power_of_two(exponent - half);
#endif
  }

  SPCL_HD static Vector power_of_two(Mask exponent) { return reinterpret_cast<Vector>((exponent + 127) << 23); }
};

template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(SPCL_VECTOR_BYTES)));
  typedef int64_t Mask __attribute__((vector_size(SPCL_VECTOR_BYTES)));
  typedef int64_t Index;
  static constexpr int count = SPCL_VECTOR_BYTES / sizeof(double);

  SPCL_HD static Vector larger(Vector a, Vector b) { return a > b ? a : b; }
  SPCL_HD static Vector bounded(Vector x) { return larger(Vector{} - 746.0, x); }

  SPCL_HD static Vector multiply_add(Vector a, Vector b, Vector c) {
#if SPCL_VECTOR_BYTES == 64
    return reinterpret_cast<Vector>(
        _mm512_fmadd_pd(reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b), reinterpret_cast<__m512d>(c)));
#elif SPCL_VECTOR_BYTES == 32
    return reinterpret_cast<Vector>(
        _mm256_fmadd_pd(reinterpret_cast<__m256d>(a), reinterpret_cast<__m256d>(b), reinterpret_cast<__m256d>(c)));
#else
    return a * b + c;
#endif
  }

  SPCL_HD static Vector sqrt(Vector x) {
#if SPCL_VECTOR_BYTES == 64
    return reinterpret_cast<Vector>(_mm512_maskz_sqrt_pd(0xFF, reinterpret_cast<__m512d>(x)));
#elif SPCL_VECTOR_BYTES == 32
    return reinterpret_cast<Vector>(_mm256_sqrt_pd(reinterpret_cast<__m256d>(x)));
#else
    for (int lane = 0; lane < count; ++lane) x[lane] = __builtin_sqrt(x[lane]);
    return x;
#endif
  }

  SPCL_HD static Vector exp_of_near(Vector x) { return exp(x); }
  /// As in float32; at most two units in the last place from the C library's.
  SPCL_HD static Vector exp(Vector x) {
    x = bounded(x);
    const Vector shifted = multiply_add(x, Vector{} + 1.4426950408889634, Vector{} + round_to_integer);
    const Vector n = shifted - round_to_integer;
    const Vector r = multiply_add(n, Vector{} - log2_low, multiply_add(n, Vector{} - log2_high, x));
    // Taylor's series: what follows r^13 / 13! is below 4e-18 for |r| <= log(2) / 2.
    constexpr double factors[] = {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                                  1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2,     1.0};
    Vector p = Vector{} + 1.0 / 6227020800;
#pragma GCC unroll 12
    for (const double factor : factors) p = multiply_add(p, r, Vector{} + factor);
    return times_power_of_two(multiply_add(p, r, Vector{} + 1.0), n, shifted);
  }

  SPCL_HD static Vector log(Vector x) {
    // x = 2^n m with m in [sqrt(1/2), sqrt(2)); log(m) = 2 artanh(s), the series in the form that keeps f = m - 1
    // exact.
    const Mask bits = reinterpret_cast<Mask>(x) - 0x3FE6A09E00000000;
    const Vector n = __builtin_convertvector(bits >> 52, Vector);
    const Vector m = reinterpret_cast<Vector>((bits & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E00000000);
    const Vector f = m - 1.0;
    const Vector s = f / (2.0 + f);
    const Vector z = s * s;
    constexpr double factors[] = {2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13, 2.0 / 11, 2.0 / 9, 2.0 / 7, 2.0 / 5, 2.0 / 3};
    Vector p = Vector{} + 2.0 / 21;
#pragma GCC unroll 9
    for (const double factor : factors) p = multiply_add(p, z, Vector{} + factor);
    const Vector half_square = 0.5 * f * f;
    const Vector tail = multiply_add(s, multiply_add(p, z, half_square), n * log2_low);
    const Vector result = multiply_add(n, Vector{} + log2_high, f - (half_square - tail));
    return x == x ? result : x;
  }

 private:
  static constexpr double round_to_integer = 0x1.8p52;
  static constexpr double log2_high = 6.93147180369123816490e-01, log2_low = 1.90821492927058770002e-10;  // fdlibm's

  SPCL_HD static Vector times_power_of_two(Vector p, [[maybe_unused]] Vector n, [[maybe_unused]] Vector shifted) {
#if SPCL_VECTOR_BYTES == 64
    return reinterpret_cast<Vector>(
        _mm512_maskz_scalef_pd(0xFF, reinterpret_cast<__m512d>(p), reinterpret_cast<__m512d>(n)));
#else
    constexpr int64_t bias = 0x4338000000000000;  // of the bits of what was shifted
    const Mask exponent = reinterpret_cast<Mask>(shifted) - bias;
    const Mask half = reinterpret_cast<Mask>(multiply_add(n, Vector{} + 0.5, Vector{} + round_to_integer)) - bias;
    return p * power_of_two(half) * power_of_two(exponent - half);
#endif
  }

  SPCL_HD static Vector power_of_two(Mask exponent) { return reinterpret_cast<Vector>((exponent + 1023) << 52); }
};

SPCL_HD float widen(float value) { return value; }
SPCL_HD double widen(double value) { return value; }
SPCL_HD float widen(BFloat16 value) { return widen_bits(value); }
SPCL_HD float widen(Float16 value) { return widen_bits(value); }

/// The way back: rounded to nearest, ties to even.
template <class To, class Real>
SPCL_HD To narrow(Real value) {
  if constexpr (sizeof(To) == sizeof(Real)) {
    return value;
  } else {
    return narrow_bits<To>(value);
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
