// Dot products of a few rows with each other, for the instruction set being compiled (see cpu/every_isa.h): element f
// goes to lane f % 16, and the lanes are added in one fixed order, so the width of the vectors changes no bit. Comes
// after cpu/lanes.h, cpu/sum16.h and cpu/widen.h, which have no include guard.

namespace spcl {
namespace SPCL_ISA {

/// Elements after which float32 sums are added to float64 ones: the error does not grow with the length of a row.
inline constexpr int64_t kDotElements = 1024;

/// Bytes that are fetched ahead, which nothing needs to exist for: with several streams of rows the processor's own
/// guess is late. Of 1024 to 8192, measured best.
inline constexpr int64_t kAhead = 3072;

/// Which products are wanted: of every pair of rows i <= j, or of the first row with the second alone.
enum class Products { kAll, kFirstTwo };

template <int rows, Products products>
inline constexpr int kProducts = products == Products::kAll ? rows * (rows + 1) / 2 : 1;

/// One product's 16 lanes, as Sum16 has them, but not set to zero: the first elements begin it.
struct ProductSum {
  Lanes<double>::Vector parts[16 / Lanes<double>::count];

  template <class Real, bool begins>
  SPCL_HD void add(int first, typename Lanes<Real>::Vector values) {
    const AsDoubles doubles(values);
    for (int k = 0; k < AsDoubles::count<Real>; ++k) {
      auto& part = parts[first / Lanes<double>::count + k];
      if constexpr (begins) part = doubles.parts[k];
      if constexpr (!begins) part += doubles.parts[k];
    }
  }
};

/// Adds lane k + width to lane k of groups of 2 width lanes, of two vectors at once: the lanes of `a`, then of `b`.
template <int width>
SPCL_HD Lanes<double>::Vector add_halves(Lanes<double>::Vector a, Lanes<double>::Vector b) {
  constexpr int lanes = Lanes<double>::count;
  Lanes<double>::Mask low, high;
  for (int lane = 0; lane < lanes; ++lane) {
    low[lane] = lane / width * 2 * width + lane % width;
    high[lane] = low[lane] + width;
  }
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

/// The totals of some sums, added in the order of Sum16::total(), as many at a time as a vector has lanes.
template <int count>
SPCL_HD void find_totals(const ProductSum* sums, double* totals) {
  using Doubles = Lanes<double>::Vector;
  constexpr int lanes = Lanes<double>::count;
  for (int first = 0; first < count; first += lanes) {
    const int here = count - first < lanes ? count - first : lanes;
    Doubles row[lanes] = {};
    for (int k = 0; k < here; ++k) {
      Doubles parts[16 / lanes];
      for (int part = 0; part < 16 / lanes; ++part) parts[part] = sums[first + k].parts[part];
      for (int half = 16 / lanes / 2; half > 0; half /= 2) {
        for (int part = 0; part < half; ++part) parts[part] += parts[part + half];
      }
      row[k] = parts[0];
    }
    if constexpr (lanes >= 8) {
      for (int k = 0; k < 4; ++k) row[k] = add_halves<4>(row[2 * k], row[2 * k + 1]);
    }
    if constexpr (lanes >= 4) {
      for (int k = 0; k < 2; ++k) row[k] = add_halves<2>(row[2 * k], row[2 * k + 1]);
    }
    row[0] = add_halves<1>(row[0], row[1]);
    for (int k = 0; k < here; ++k) totals[first + k] = row[0][k];
  }
}

/// Begins `sums` with the products of at most kDotElements elements, or adds them. Pairs in the order (0, 0),
/// (0, 1), ..., (1, 1), ...
template <class Input, int rows, Products products, bool begins>
SPCL_HD void add_products(const char* const* row, int64_t elements, ProductSum* sums) {
  using Real = typename Arithmetic<Input>::Real;
  using Vector = typename Lanes<Real>::Vector;
  constexpr int lanes = Lanes<Real>::count, parts = 16 / lanes, pairs = kProducts<rows, products>;
  // As many of the 16 lanes at a time as there are registers for their sums; the rest in a second pass.
  constexpr int registers = SPCL_VECTOR_BYTES == 64 ? 24 : 12;
  constexpr int together = pairs * parts <= registers ? parts : pairs * 2 <= registers && parts > 1 ? 2 : 1;
  const int64_t whole = elements / 16 * 16;
  for (int first = 0; first < parts; first += together) {
    Vector sum[together][pairs];  // set one by one: the compiler would call for memory to be cleared, and wait for it
#pragma GCC unroll 16
    for (int part = 0; part < together; ++part) {
#pragma GCC unroll 16
      for (int pair = 0; pair < pairs; ++pair) sum[part][pair] = Vector{};
    }
    const auto add = [&](int part, const Vector* x) __attribute__((always_inline)) {
      int pair = 0;
      if constexpr (products == Products::kFirstTwo) {
        sum[part][0] = Lanes<Real>::multiply_add(x[0], x[1], sum[part][0]);
      } else {
        for (int i = 0; i < rows; ++i) {
          for (int j = i; j < rows; ++j, ++pair)
            sum[part][pair] = Lanes<Real>::multiply_add(x[i], x[j], sum[part][pair]);
        }
      }
    };
    for (int64_t f = 0; f < whole; f += 16) {
      for (int part = 0; part < together; ++part) {
        const int64_t at = (f + (first + part) * lanes) * static_cast<int64_t>(sizeof(Input));
        Vector x[rows];
        for (int i = 0; i < rows; ++i) {
          __builtin_prefetch(row[i] + at + kAhead);
          x[i] = load_widened<Input>(row[i] + at, lanes);
        }
        add(part, x);
      }
    }
    for (int part = 0; part < together; ++part) {
      const int64_t begin = whole + (first + part) * lanes;
      if (begin >= elements) break;
      const int count = elements - begin < lanes ? static_cast<int>(elements - begin) : lanes;
      Vector x[rows];
      for (int i = 0; i < rows; ++i) {
        x[i] = load_widened<Input>(row[i] + begin * static_cast<int64_t>(sizeof(Input)), count);
      }
      add(part, x);
    }
    for (int part = 0; part < together; ++part) {
      for (int pair = 0; pair < pairs; ++pair)
        sums[pair].template add<Real, begins>((first + part) * lanes, sum[part][pair]);
    }
  }
}

/// Adds the product of two rows whose elements are multiplied by `scale_a` and `scale_b` first, all in float64.
template <class Input>
void add_scaled_product(const char* a, const char* b, double scale_a, double scale_b, int64_t elements, Sum16& sum) {
  constexpr int lanes = Lanes<typename Arithmetic<Input>::Real>::count;
  for (int64_t f = 0; f < elements; f += lanes) {
    const int count = elements - f < lanes ? static_cast<int>(elements - f) : lanes;
    const int64_t at = f * static_cast<int64_t>(sizeof(Input));
    const AsDoubles x(load_widened<Input>(a + at, count)), y(load_widened<Input>(b + at, count));
    for (int part = 0; part < AsDoubles::count<typename Arithmetic<Input>::Real>; ++part) {
      sum.add(f + part * Lanes<double>::count, (x.parts[part] * scale_a) * (y.parts[part] * scale_b));
    }
  }
}

/// The largest magnitude, +Inf where an element is NaN or infinite.
template <class Input>
double largest_magnitude(const char* row, int64_t elements) {
  using Traits = Lanes<typename Arithmetic<Input>::Real>;
  using Vector = typename Traits::Vector;
  Vector largest{};
  typename Traits::Mask bad{};
  for (int64_t f = 0; f < elements; f += Traits::count) {
    const int count = elements - f < Traits::count ? static_cast<int>(elements - f) : Traits::count;
    const Vector x = load_widened<Input>(row + f * static_cast<int64_t>(sizeof(Input)), count);
    const Vector magnitude = x < Vector{} ? -x : x;
    bad |= magnitude - magnitude != Vector{};
    largest = magnitude > largest ? magnitude : largest;
  }
  double result = 0;
  for (int lane = 0; lane < Traits::count; ++lane) {
    const double here = bad[lane] != 0 ? __builtin_inf() : static_cast<double>(largest[lane]);
    result = here > result ? here : result;
  }
  return result;
}

}  // namespace SPCL_ISA
}  // namespace spcl
