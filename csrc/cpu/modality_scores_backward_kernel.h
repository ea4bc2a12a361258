// The kernel, for the instruction set being compiled (see cpu/every_isa.h): one row a lane.

#include "cpu/lanes.h"
//
#include "cpu/row_labels.h"
#include "cpu/row_tile.h"
#include "math/cross_entropy.h"
#include "math/modality_scores_backward.h"

namespace spcl {
namespace SPCL_ISA {

template <class To, class Real>
SPCL_HD To narrow(Real value) {
  if constexpr (sizeof(To) == sizeof(Real)) {
    return value;
  } else {
    return narrow_bits<To>(value);
  }
}

/// One vector of the gradients that arrive at a score; 0 past the last row, and where none arrives.
template <class Real>
typename Lanes<Real>::Vector load_gradients(const ScoreGradientRows& rows, int64_t begin, int count) {
  using Vector = typename Lanes<Real>::Vector;
  if (rows.data == nullptr) return Vector{};
  const char* data = rows.data + begin * rows.stride;
  if (rows.stride == 0) return Vector{} + load_as<Real>(data);
  Vector vector{};
  if (rows.stride == sizeof(Real) && count == Lanes<Real>::count) {
    std::memcpy(&vector, data, sizeof vector);
    return vector;
  }
  for (int lane = 0; lane < count; ++lane) vector[lane] = load_as<Real>(data + lane * rows.stride);
  return vector;
}

/// In place of tables that a block does not need.
struct Unused {
  explicit Unused(int64_t) {}
};

template <class Input, class Real>
struct BackwardBlock {
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  using Mask = typename Traits::Mask;
  using Index = typename Traits::Index;
  static constexpr int lanes = Traits::count;

  // Rows of halves are put together as float32 and narrowed after; all others need one set of tables only.
  static constexpr bool is_narrow = sizeof(Input) < sizeof(Real);

  explicit BackwardBlock(const ModalityScoresBackwardRows& rows)
      : rows(rows), row_tiles(rows.inputs.num_classes), wide_tiles(rows.inputs.num_classes) {}

  const ModalityScoresBackwardRows& rows;
  const RowTiles<Input, Real> row_tiles;
  const std::conditional_t<is_narrow, RowTiles<Real, Real>, Unused> wide_tiles;
  Input* const gradient = static_cast<Input*>(rows.gradient);
  const int64_t num_classes = rows.inputs.num_classes;
  const bool one_tile = num_classes <= kTileClasses;
  const bool has_entropy = rows.entropy.data != nullptr;
  const bool has_margin = rows.margin.data != nullptr && num_classes > 1;  // else it is NaN, whatever the logits
  int64_t begin;
  int count;
  Mask label;
  Vector maximum, rival;      // the largest logit, and the largest that is not the label's
  Tile<Real> logits, values;  // `values` are exponentials, then gradients

  /// Calls `visit(first, size)` for each tile of classes.
  template <class Visit>
  void for_tiles(const Visit& visit) {
    for (int64_t first = 0; first < num_classes; first += kTileClasses) {
      visit(first, num_classes - first < kTileClasses ? num_classes - first : kTileClasses);
    }
  }

  void read(int64_t first, int64_t size) {
    const FloatRows& z = rows.inputs.logits;
    const char* address = z.data + begin * z.row_stride + first * z.class_stride;
    row_tiles.read(address, z.row_stride, z.class_stride, count, size, logits.values);
  }
  SPCL_HD Vector& value(int64_t c) { return *reinterpret_cast<Vector*>(values.values[c]); }
  SPCL_HD Vector shift(int64_t c) const { return logits.at(c) - maximum; }
  SPCL_HD Mask is_label(int64_t c) const { return label == static_cast<Index>(c); }

  void find_maxima() {
    const Vector lowest = Vector{} - static_cast<Real>(__builtin_inf());
    maximum = rival = lowest;
    for_tiles([&](int64_t first, int64_t size) {
      read(first, size);
      for (int64_t c = 0; c < size; ++c) maximum = Traits::larger(logits.at(c), maximum);
      if (!has_margin) return;
      for (int64_t c = 0; c < size; ++c) {
        rival = Traits::larger(is_label(first + c) ? lowest : logits.at(c), rival);
      }
    });
  }

  /// The gradients of a block of rows, of which at least one has a label. Rows of several tiles are read three times.
  void send_back() {
    find_maxima();
    TileSum<Vector> sum, weighted;
    Vector true_exp{};
    Mask ties{};
    for_tiles([&](int64_t first, int64_t size) {
      if (!one_tile) read(first, size);
      for (int64_t c = 0; c < size; ++c) {
        const Vector e = Traits::exp(shift(c));
        value(c) = e;
        sum.tile = sum.tile + e;
        true_exp = is_label(first + c) ? e : true_exp;
      }
      sum.close_tile();
      if (has_entropy) {
        for (int64_t c = 0; c < size; ++c) {
          weighted.tile = weighted.tile + (value(c) > 0 ? value(c) * shift(c) : value(c));
        }
        weighted.close_tile();
      }
      if (has_margin) {  // a true lane is -1
        for (int64_t c = 0; c < size; ++c) ties -= (logits.at(c) == rival) & ~is_label(first + c);
      }
    });
    const Vector rival_exp = has_margin ? Traits::exp(rival - maximum) : Vector{};
    const ScoreGradients<Vector> of{load_gradients<Real>(rows.loss, begin, count),
                                    load_gradients<Real>(rows.confidence, begin, count),
                                    load_gradients<Real>(rows.entropy, begin, count),
                                    has_margin ? load_gradients<Real>(rows.margin, begin, count) : Vector{}};
    const RowGradient<Vector> row(of, sum.total, weighted.total, true_exp, rival_exp,
                                  __builtin_convertvector(ties, Vector));
    const Mask scored = (label >= 0) & (sum.total == sum.total);
    for_tiles([&](int64_t first, int64_t size) {
      if (!one_tile) {
        read(first, size);
        for (int64_t c = 0; c < size; ++c) value(c) = Traits::exp(shift(c));
      }
      for (int64_t c = 0; c < size; ++c) {
        const Vector g = has_entropy ? row.with_entropy(shift(c), value(c)) : row.without_entropy(value(c));
        const Vector with_label = is_label(first + c) ? g + row.at_label : g;
        value(c) = scored ? with_label : Vector{};
      }
      if (has_margin) {
        for (int64_t c = 0; c < size; ++c) {
          const Mask is_rival = (logits.at(c) == rival) & ~is_label(first + c) & scored;
          value(c) = is_rival ? value(c) - row.at_rival : value(c);
        }
      }
      write(first, size);
    });
  }

  void write(int64_t first, int64_t size) const {
    Input* out = gradient + begin * num_classes + first;
    if (!one_tile) {
      for (int lane = 0; lane < count; ++lane) {
        for (int64_t c = 0; c < size; ++c) out[lane * num_classes + c] = narrow<Input>(values.values[c][lane]);
      }
    } else if constexpr (is_narrow) {
      Real wide[kTileClasses * lanes];
      wide_tiles.write(values.values, count, size, wide);
      for (int64_t k = 0; k < count * size; ++k) out[k] = narrow<Input>(wide[k]);
    } else {
      row_tiles.write(values.values, count, size, out);
    }
  }

  void write_zeros() const {
    std::memset(gradient + begin * num_classes, 0, static_cast<size_t>(count * num_classes) * sizeof(Input));
  }
};

template <class Input, class Real>
void modality_scores_backward(const ModalityScoresBackwardRows& rows, int64_t begin, int64_t end) {
  BackwardBlock<Input, Real> block(rows);
  for (; begin < end; begin += block.lanes) {
    block.begin = begin;
    block.count = end - begin < block.lanes ? static_cast<int>(end - begin) : block.lanes;
    if (find_labels<Real>(rows.inputs, begin, block.count, block.label)) {
      block.send_back();
    } else {
      block.write_zeros();
    }
  }
}

void modality_scores_backward(const ModalityScoresBackwardRows& rows, int64_t begin, int64_t end) {
  switch (rows.inputs.logits.type) {
    case FloatType::kFloat16:
      return modality_scores_backward<Float16, float>(rows, begin, end);
    case FloatType::kBFloat16:
      return modality_scores_backward<BFloat16, float>(rows, begin, end);
    case FloatType::kFloat32:
      return modality_scores_backward<float, float>(rows, begin, end);
    case FloatType::kFloat64:
      return modality_scores_backward<double, double>(rows, begin, end);
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
