// Dot products of a few rows with each other, for the instruction set being compiled (see cpu/every_isa.h): element f
// goes to lane f % 16, and the lanes are added in one fixed order, so the width of the vectors changes no bit. Comes
// after cpu/lanes.h, cpu/sum16.h and cpu/widen.h, which have no include guard.

namespace spcl {
namespace SPCL_ISA {

/// Elements after which float32 sums are added to float64 ones: the error does not grow with the length of a row.
inline constexpr int64_t kDotElements = 1024;

/// Which products are wanted: of every pair of rows i <= j, or of the first row with the second alone.
enum class Products { kAll, kFirstTwo };

template <int rows, Products products>
inline constexpr int kProducts = products == Products::kAll ? rows * (rows + 1) / 2 : 1;

SPCL_HD Lanes<float>::Vector times_plus(Lanes<float>::Vector a, Lanes<float>::Vector b, Lanes<float>::Vector c) {
  return Lanes<float>::multiply_add(a, b, c);
}
SPCL_HD Lanes<double>::Vector times_plus(Lanes<double>::Vector a, Lanes<double>::Vector b, Lanes<double>::Vector c) {
  return a * b + c;
}

/// Adds the products of at most kDotElements elements to `sums`. Pairs in the order (0, 0), (0, 1), ..., (1, 1), ...
template <class Input, int rows, Products products>
SPCL_HD void add_products(const char* const* row, int64_t elements, Sum16* sums) {
  using Traits = Lanes<typename Arithmetic<Input>::Real>;
  using Vector = typename Traits::Vector;
  constexpr int lanes = Traits::count, parts = 16 / lanes, pairs = kProducts<rows, products>;
  // As many of the 16 lanes at a time as there are registers for their sums; the rest in a second pass.
  constexpr int registers = SPCL_VECTOR_BYTES == 64 ? 24 : 12;
  constexpr int together = pairs * parts <= registers ? parts : pairs * 2 <= registers && parts > 1 ? 2 : 1;
  const int64_t whole = elements / 16 * 16;
  for (int first = 0; first < parts; first += together) {
    Vector sum[together][pairs] = {};
    const auto add = [&](int part, const Vector* x) __attribute__((always_inline)) {
      int pair = 0;
      if constexpr (products == Products::kFirstTwo) {
        sum[part][0] = times_plus(x[0], x[1], sum[part][0]);
      } else {
        for (int i = 0; i < rows; ++i) {
          for (int j = i; j < rows; ++j, ++pair) sum[part][pair] = times_plus(x[i], x[j], sum[part][pair]);
        }
      }
    };
    for (int64_t f = 0; f < whole; f += 16) {
      for (int part = 0; part < together; ++part) {
        const int64_t at = (f + (first + part) * lanes) * static_cast<int64_t>(sizeof(Input));
        Vector x[rows];
        for (int i = 0; i < rows; ++i) x[i] = load_widened<Input>(row[i] + at, lanes);
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
      for (int pair = 0; pair < pairs; ++pair) sums[pair].add((first + part) * lanes, sum[part][pair]);
    }
  }
}

/// A vector of either width as vectors of float64.
struct AsDoubles {
  Lanes<double>::Vector parts[2];
  int count;

  SPCL_HD explicit AsDoubles(Lanes<double>::Vector values) : parts{values, values}, count(1) {}
  SPCL_HD explicit AsDoubles(Lanes<float>::Vector values) : count(2) {
    typedef float Half __attribute__((vector_size(SPCL_VECTOR_BYTES / 2)));
    Half low, high;
    std::memcpy(&low, &values, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&values) + sizeof low, sizeof high);
    parts[0] = __builtin_convertvector(low, Lanes<double>::Vector);
    parts[1] = __builtin_convertvector(high, Lanes<double>::Vector);
  }
};

/// Adds the product of two rows whose elements are multiplied by `scale_a` and `scale_b` first, all in float64.
template <class Input>
void add_scaled_product(const char* a, const char* b, double scale_a, double scale_b, int64_t elements, Sum16& sum) {
  constexpr int lanes = Lanes<typename Arithmetic<Input>::Real>::count;
  for (int64_t f = 0; f < elements; f += lanes) {
    const int count = elements - f < lanes ? static_cast<int>(elements - f) : lanes;
    const int64_t at = f * static_cast<int64_t>(sizeof(Input));
    const AsDoubles x(load_widened<Input>(a + at, count)), y(load_widened<Input>(b + at, count));
    for (int part = 0; part < x.count; ++part) {
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
