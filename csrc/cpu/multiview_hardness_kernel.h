// The kernel, for the instruction set being compiled (see cpu/every_isa.h): a row a time, its features in the lanes.

#include "cpu/lanes.h"
//
#include "cpu/sum16.h"
#include "cpu/widen.h"
#include "math/multiview_hardness.h"

namespace spcl {
namespace SPCL_ISA {

/// Utterances whose rows of one modality are read one after the other.
inline constexpr int64_t kHardnessTile = 16;
/// Features that are summed in float32 before the sum goes on in float64.
inline constexpr int64_t kHardnessPiece = 1024;

/// What is summed over a row: feature i in lane i % 16 of float, i % 8 of double, whatever the registers hold.
template <class Real>
struct RowLanes {
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  static constexpr int parts = 64 / SPCL_VECTOR_BYTES, step = parts * Traits::count;
  Vector part[parts];

  SPCL_HD explicit RowLanes(Real value) {
#pragma GCC unroll 8
    for (Vector& vector : part) vector = Vector{} + value;
  }

  /// All lanes by `combine`: lane k takes lane k + half of them, then half of that, and so on.
  template <class Combine>
  SPCL_HD Real folded(const Combine& combine) const {
    Vector vector[parts];
#pragma GCC unroll 8
    for (int k = 0; k < parts; ++k) vector[k] = part[k];
#pragma GCC unroll 4
    for (int half = parts / 2; half > 0; half /= 2) {
      for (int k = 0; k < half; ++k) vector[k] = combine(vector[k], vector[k + half]);
    }
#pragma GCC unroll 4
    for (int width = Traits::count / 2; width > 0; width /= 2) {
      typename Traits::Mask from;
      for (int lane = 0; lane < Traits::count; ++lane) {
        from[lane] = static_cast<typename Traits::Index>((lane + width) % Traits::count);
      }
      vector[0] = combine(vector[0], __builtin_shuffle(vector[0], from));
    }
    return vector[0][0];
  }
  SPCL_HD Real sum() const {
    return folded([](Vector a, Vector b) SPCL_INLINE { return a + b; });
  }
};

/// Calls visit(first, count, part) for the vectors of `size` features; `count` is short of a vector for the last alone.
template <class Real, class Visit>
SPCL_HD void over_row(int64_t size, const Visit& visit) {
  constexpr int lanes = Lanes<Real>::count, parts = RowLanes<Real>::parts, step = RowLanes<Real>::step;
  int64_t i = 0;
  for (; i + step <= size; i += step) {
#pragma GCC unroll 8
    for (int part = 0; part < parts; ++part) visit(i + part * lanes, lanes, part);
  }
#pragma GCC unroll 8
  for (int part = 0; part < parts; ++part) {
    const int64_t left = size - i - part * lanes;
    if (left > 0) visit(i + part * lanes, left < lanes ? static_cast<int>(left) : lanes, part);
  }
}

/// The first `count` lanes, and `fill` in the others.
template <class Real>
SPCL_HD typename Lanes<Real>::Vector kept_lanes(typename Lanes<Real>::Vector vector, int count, Real fill) {
  using Traits = Lanes<Real>;
  if (count == Traits::count) return vector;
  typename Traits::Mask lane;
  for (int k = 0; k < Traits::count; ++k) lane[k] = static_cast<typename Traits::Index>(k);
  return lane < static_cast<typename Traits::Index>(count) ? vector : typename Traits::Vector{} + fill;
}

/// One row of numbers of type `Input`, contiguous or not.
template <class Input, bool contiguous>
struct Row {
  using Real = typename Arithmetic<Input>::Real;
  const char* data;
  int64_t stride;

  /// The features from `first` on, 0 in the lanes past `count`.
  SPCL_HD typename Lanes<Real>::Vector load(int64_t first, int count) const {
    if constexpr (contiguous) {
      return load_widened<Input>(data + first * static_cast<int64_t>(sizeof(Input)), count);
    } else {
      typename Lanes<Real>::Vector vector{};
      for (int lane = 0; lane < count; ++lane) vector[lane] = widen(load_as<Input>(data + (first + lane) * stride));
      return vector;
    }
  }
};

/// sum_f (r - x)^2; without a target x is 0.
template <class Row>
SPCL_HD double squared_error(const Row& reconstruction, const Row* target, int64_t width) {
  using Real = typename Row::Real;
  using Vector = typename Lanes<Real>::Vector;
  double total = 0;
  for (int64_t begin = 0; begin < width; begin += kHardnessPiece) {
    RowLanes<Real> sums(Real{});
    over_row<Real>(width - begin < kHardnessPiece ? width - begin : kHardnessPiece,
                   [&](int64_t first, int count, int part) SPCL_INLINE {
                     Vector error = reconstruction.load(begin + first, count);
                     if (target != nullptr) error = error - target->load(begin + first, count);
                     sums.part[part] = Lanes<Real>::multiply_add(error, error, sums.part[part]);
                   });
    total += static_cast<double>(sums.sum());
  }
  return total;
}

/// The sums that make the entropy proxy of each row of a tile (`entropy_of_sums`).
struct EntropySums {
  double total[kHardnessTile], sum[kHardnessTile], moment[kHardnessTile], tail[kHardnessTile];
};

/// log1p(u) / u for u = eps / p', p' = e' / Z: `scale` is eps Z.
SPCL_HD Lanes<float>::Vector tail_of(Lanes<float>::Vector e, float scale) {
  using Traits = Lanes<float>;
  // 1 / e' from its bits, and a step of Newton's: to 1.5 %, of which the entropy sees 1e-10 a feature.
  const Traits::Vector guess = reinterpret_cast<Traits::Vector>(0x7EF311C3 - reinterpret_cast<Traits::Mask>(e));
  const Traits::Vector inverse = guess * Traits::multiply_add(-e, guess, Traits::Vector{} + 2.0f);
  return tail_factor(inverse * scale, [](Traits::Vector a, Traits::Vector b, Traits::Vector c)
                                          SPCL_INLINE { return Traits::multiply_add(a, b, c); });
}
SPCL_HD Lanes<double>::Vector tail_of(Lanes<double>::Vector e, double scale) {
  const Lanes<double>::Vector u = scale / e;
  return Lanes<double>::log(1.0 + u) / u;
}

/// Calls piece(begin, size) for the pieces of `size` features that are summed in float32.
template <class Piece>
SPCL_HD void over_pieces(int64_t size, const Piece& piece) {
  for (int64_t begin = 0; begin < size; begin += kHardnessPiece) {
    piece(begin, size - begin < kHardnessPiece ? size - begin : kHardnessPiece);
  }
}

/// sum e^(x - top) and sum (x - top) e^(x - top) of a row; `exps` takes the exponentials, whole vectors past its end
/// too.
template <bool near, class Row>
SPCL_HD void sum_exponentials(Row row, int64_t units, typename Row::Real top, typename Row::Real* exps, double& total,
                              double& moment) {
  using Real = typename Row::Real;
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  double totals = 0, moments = 0;
  over_pieces(units, [&](int64_t begin, int64_t size) SPCL_INLINE {
    RowLanes<Real> total_lanes(Real{}), moment_lanes(Real{});
    over_row<Real>(size, [&](int64_t first, int count, int part) SPCL_INLINE {
      Vector shift = row.load(begin + first, count) - top;
      if constexpr (!near) shift = Traits::bounded(shift);
      const Vector all = near ? Traits::exp_of_near(shift) : Traits::exp(shift);
      const Vector e = kept_lanes<Real>(all, count, Real{});
      std::memcpy(exps + begin + first, &e, sizeof e);
      total_lanes.part[part] += e;
      moment_lanes.part[part] =
          Traits::multiply_add(e, kept_lanes<Real>(shift, count, Real{}), moment_lanes.part[part]);
    });
    totals += static_cast<double>(total_lanes.sum());
    moments += static_cast<double>(moment_lanes.sum());
  });
  // NaN is seen in the moment for sure: bits that are added to those of a NaN may make a number of it.
  total = moments == moments ? totals : moments, moment = moments;
}

/// Adds a row to the sums as number `k`. `exps` is memory for a row, and for whole vectors past its end.
template <class Row>
void entropy_sums(Row row, int64_t units, typename Row::Real* exps, EntropySums& sums, int64_t k) {
  using Real = typename Row::Real;
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  constexpr Real infinity = static_cast<Real>(__builtin_inf());

  RowLanes<Real> largest(-infinity), largest_below(-infinity);  // of x and of -x
  over_row<Real>(units, [&](int64_t first, int count, int part) SPCL_INLINE {
    const Vector x = row.load(first, count);
    largest.part[part] = Traits::larger(kept_lanes<Real>(x, count, -infinity), largest.part[part]);
    largest_below.part[part] = Traits::larger(kept_lanes<Real>(-x, count, -infinity), largest_below.part[part]);
  });
  const auto larger = [](Vector a, Vector b) SPCL_INLINE { return Traits::larger(a, b); };
  const Real top = largest.folded(larger), depth = top + largest_below.folded(larger);

  // A row without softmax is NaN from here on.
  double total, moment;
  if (sizeof(Real) == sizeof(float) && depth < 80) {
    sum_exponentials<true>(row, units, top, exps, total, moment);
    // Where no probability is below the larger of 1e-6 and 4e-8 F, nothing is clamped, and log1p(u) / u taken as 1
    // leaves the entropy right to 1.3e-7.
    const double few = 4e-8 * static_cast<double>(units);
    const double least = Traits::exp(Vector{} - depth)[0];
    if (least >= total * (few > kSmallestProbability ? few : kSmallestProbability)) {
      sums.total[k] = sums.sum[k] = total, sums.moment[k] = moment, sums.tail[k] = static_cast<double>(units);
      return;
    }
  } else {
    sum_exponentials<false>(row, units, top, exps, total, moment);
  }
  const Real floor = static_cast<Real>(kSmallestProbability * total);
  const Real scale = static_cast<Real>(kAddedProbability * total);
  const Vector log_floor = Traits::log(Vector{} + floor);
  double sum = 0, tail = 0;
  moment = 0;
  over_pieces(units, [&](int64_t begin, int64_t size) SPCL_INLINE {
    RowLanes<Real> sum_lanes(Real{}), moment_lanes(Real{}), tail_lanes(Real{});
    over_row<Real>(size, [&](int64_t first, int count, int part) SPCL_INLINE {
      Vector e;
      std::memcpy(&e, exps + begin + first, sizeof e);
      const Vector shift = row.load(begin + first, count) - top;
      const Vector clamped = Traits::larger(e, Vector{} + floor);
      const Vector own = kept_lanes<Real>(clamped, count, Real{});
      sum_lanes.part[part] += own;
      moment_lanes.part[part] = Traits::multiply_add(own, Traits::larger(shift, log_floor), moment_lanes.part[part]);
      tail_lanes.part[part] += kept_lanes<Real>(tail_of(clamped, scale), count, Real{});
    });
    sum += static_cast<double>(sum_lanes.sum());
    moment += static_cast<double>(moment_lanes.sum());
    tail += static_cast<double>(tail_lanes.sum());
  });
  sums.total[k] = total, sums.sum[k] = sum, sums.moment[k] = moment, sums.tail[k] = tail;
}

/// Calls body(row) with the row of an utterance, in the form its strides allow.
template <class Input, class Body>
SPCL_HD void with_rows(bool contiguous, const Body& body) {
  if (contiguous) return body(std::integral_constant<bool, true>());
  body(std::integral_constant<bool, false>());
}

template <class Input>
bool is_contiguous(const FloatRows& rows) {
  return rows.class_stride == static_cast<int64_t>(sizeof(Input));
}

/// Adds weight times the entropy proxy of each row [begin, begin + count) that is wanted.
template <class Input>
void add_entropies(const FloatRows& rows, int64_t units, int64_t begin, int64_t count, const bool* wanted,
                   double weight, void* work, double* information) {
  using Real = typename Arithmetic<Input>::Real;
  using Doubles = Lanes<double>;
  EntropySums sums;
  for (int64_t k = 0; k < kHardnessTile; ++k) sums.total[k] = 1, sums.sum[k] = sums.moment[k] = sums.tail[k] = 0;
  with_rows<Input>(is_contiguous<Input>(rows), [&](auto contiguous) {
    for (int64_t k = 0; k < count; ++k) {
      if (!wanted[k]) continue;
      const Row<Input, contiguous.value> row{rows.data + (begin + k) * rows.row_stride, rows.class_stride};
      entropy_sums(row, units, static_cast<Real*>(work), sums, k);
    }
  });
  for (int64_t k = 0; k < kHardnessTile; k += Doubles::count) {
    Doubles::Vector total;
    std::memcpy(&total, sums.total + k, sizeof total);
    const Doubles::Vector log_total = Doubles::log(total);
    for (int lane = 0; lane < Doubles::count; ++lane) {
      const int64_t i = k + lane;
      information[i] +=
          weight * entropy_of_sums(log_total[lane], sums.total[i], sums.sum[i], sums.moment[i], sums.tail[i]);
    }
  }
}

/// Adds the mean squared error of each row [begin, begin + count) that is wanted.
template <class Input>
void add_errors(const HardnessBatch& batch, int64_t m, int64_t begin, int64_t count, const bool* wanted,
                double* direct) {
  const FloatRows& r = batch.reconstruction[m];
  const FloatRows x = batch.target == nullptr ? r : batch.target[m];
  const int64_t width = batch.widths[m];
  with_rows<Input>(is_contiguous<Input>(r) && is_contiguous<Input>(x), [&](auto contiguous) {
    for (int64_t k = 0; k < count; ++k) {
      if (!wanted[k]) continue;
      const Row<Input, contiguous.value> row{r.data + (begin + k) * r.row_stride, r.class_stride};
      const Row<Input, contiguous.value> other{x.data + (begin + k) * x.row_stride, x.class_stride};
      direct[k] += squared_error(row, batch.target == nullptr ? nullptr : &other, width) / static_cast<double>(width);
    }
  });
}

template <class Input>
HardnessBounds hardness_parts(const HardnessBatch& batch, int64_t begin, int64_t end, void* work) {
  using Real = typename Arithmetic<Input>::Real;
  constexpr double infinity = __builtin_inf();
  const int64_t M = batch.modalities, pairs = M * (M - 1) / 2;
  HardnessBounds bounds;
  for (int64_t first = begin; first < end; first += kHardnessTile) {
    const int64_t count = end - first < kHardnessTile ? end - first : kHardnessTile;
    double direct[kHardnessTile] = {}, information[kHardnessTile] = {};
    bool valid[kHardnessTile], wanted[kHardnessTile];
    for (int64_t k = 0; k < count; ++k) {
      valid[k] = batch.valid == nullptr || batch.valid[(first + k) * batch.valid_stride] != 0;
    }
    for (int64_t m = 0; m < M; ++m) {
      const char* present = batch.present + m * batch.present_modality_stride + first * batch.present_stride;
      for (int64_t k = 0; k < count; ++k) wanted[k] = valid[k] && present[k * batch.present_stride] == 0;
      add_errors<Input>(batch, m, first, count, wanted, direct);
    }
    // Each modality is in M - 1 pairs.
    const double share = static_cast<double>(M - 1);
    for (int64_t m = 0; m < M; ++m) {
      add_entropies<Input>(batch.hidden[m], batch.units, first, count, valid, share, work, information);
    }
    for (int64_t p = 0; p < pairs; ++p) {
      add_entropies<Input>(batch.crossed[p], batch.units, first, count, valid, -1, work, information);
    }
    for (int64_t k = 0; k < count; ++k) {
      const Real d = static_cast<Real>(direct[k] / static_cast<double>(M));
      const Real g = static_cast<Real>(batch.sign * information[k] + 0.0);  // no -0, whose order is not fixed
      const bool counts = valid[k] && d < infinity && g < infinity && g > -infinity;
      constexpr Real nan = static_cast<Real>(__builtin_nan(""));
      static_cast<Real*>(batch.direct)[first + k] = counts ? d : nan;
      static_cast<Real*>(batch.information)[first + k] = counts ? g : nan;
      const double both[2] = {static_cast<double>(d), static_cast<double>(g)};
      if (counts) bounds.widen({{both[0], both[0], both[1], both[1]}});
    }
  }
  return bounds;
}

HardnessBounds hardness_parts(const HardnessBatch& batch, int64_t begin, int64_t end, void* work) {
  switch (batch.type) {
    case FloatType::kFloat16:
      return hardness_parts<Float16>(batch, begin, end, work);
    case FloatType::kBFloat16:
      return hardness_parts<BFloat16>(batch, begin, end, work);
    case FloatType::kFloat32:
      return hardness_parts<float>(batch, begin, end, work);
    case FloatType::kFloat64:
      return hardness_parts<double>(batch, begin, end, work);
  }
  __builtin_unreachable();
}

template <class Real>
void hardness_of_parts(const Real* direct, const Real* information, Real* hardness, int64_t count,
                       const HardnessRule& rule) {
  using Doubles = Lanes<double>;
  using Vector = Doubles::Vector;
  for (int64_t i = 0; i < count; i += Doubles::count) {
    const int here = count - i < Doubles::count ? static_cast<int>(count - i) : Doubles::count;
    Vector d{}, g{};
    for (int lane = 0; lane < here; ++lane) d[lane] = direct[i + lane], g[lane] = information[i + lane];
    const Vector h = hardness_of_parts(
        d, g, rule, [](double a, Vector b) SPCL_INLINE { return a * b; },
        [](Vector x) SPCL_INLINE { return Doubles::exp(x); });
    for (int lane = 0; lane < here; ++lane) hardness[i + lane] = static_cast<Real>(h[lane]);
  }
}

void hardness_of_parts(FloatType type, const void* direct, const void* information, void* hardness, int64_t count,
                       const double* scaling, double slope, double direct_weight, double information_weight) {
  const HardnessRule rule = HardnessRule::of(scaling, slope, direct_weight, information_weight);
  if (type == FloatType::kFloat64) {
    return hardness_of_parts(static_cast<const double*>(direct), static_cast<const double*>(information),
                             static_cast<double*>(hardness), count, rule);
  }
  hardness_of_parts(static_cast<const float*>(direct), static_cast<const float*>(information),
                    static_cast<float*>(hardness), count, rule);
}

}  // namespace SPCL_ISA
}  // namespace spcl
