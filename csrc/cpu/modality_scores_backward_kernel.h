// The kernel, for the instruction set being compiled (see cpu/every_isa.h): one row a lane.

#include "cpu/lanes.h"
//
#include "cpu/row_tile.h"
#include "cpu/sum16.h"
#include "math/cross_entropy.h"
#include "math/modality_scores_backward.h"

namespace spcl {
namespace SPCL_ISA {

/// One vector of the gradients that arrive at a score; 0 past the last row, and where none arrives.
template <class Real>
SPCL_HD typename Lanes<Real>::Vector load_gradients(const ScoreGradientRows& rows, int64_t begin, int count) {
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

/// As many rows of one modality as a vector has lanes. `Fixed` is the number of classes, or 0 for any.
template <class Input, class Real, int Fixed>
struct BackwardBlock {
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  using Mask = typename Traits::Mask;
  using Index = typename Traits::Index;
  static constexpr int lanes = Traits::count;
  static constexpr int64_t tile_classes = Fixed > 0 ? Fixed : kTileClasses;

  const ModalityScoresBackwardRows& rows;
  const int64_t runtime_classes;
  const int64_t begin;
  const int count;
  const Mask label;  // the class of each row, -1 where there is nothing to score

  SPCL_HD int64_t num_classes() const { return Fixed > 0 ? Fixed : runtime_classes; }
  SPCL_HD bool one_tile() const { return num_classes() <= tile_classes; }
  SPCL_HD bool has_entropy() const { return rows.entropy.data != nullptr; }
  SPCL_HD bool has_margin() const { return rows.margin.data != nullptr && num_classes() > 1; }  // one class: it is NaN
  SPCL_HD Mask is_label(int64_t c) const { return label == static_cast<Index>(c); }
  SPCL_HD Input* gradient() const { return static_cast<Input*>(rows.gradient) + begin * num_classes(); }

  /// Calls `visit(first, size)` for each tile of classes.
  template <class Visit>
  SPCL_HD void for_tiles(const Visit& visit) const {
    if (one_tile()) return visit(int64_t{0}, num_classes());
    for (int64_t first = 0; first < num_classes(); first += tile_classes) {
      visit(first, num_classes() - first < tile_classes ? num_classes() - first : tile_classes);
    }
  }

  SPCL_HD void read(int64_t first, int64_t size, Vector* logits) const {
    const FloatRows& z = rows.inputs.logits;
    const char* address = z.data + begin * z.row_stride + first * z.class_stride;
    read_rows<Input, Real, Fixed>(address, z.row_stride, z.class_stride, count, size, logits);
  }

  /// The gradients of the rows, of which at least one has a label. Rows of several tiles are read three times.
  SPCL_HD void send_back() const {
    Vector logits[tile_classes], values[tile_classes];  // `values` are exponentials, then gradients
    const Vector lowest = Vector{} - static_cast<Real>(__builtin_inf());
    Vector maximum = lowest, rival = lowest;  // the largest logit, and the largest that is not the label's
    for_tiles([&](int64_t first, int64_t size) SPCL_INLINE {
      read(first, size, logits);
#pragma GCC unroll 8
      for (int64_t c = 0; c < size; ++c) maximum = Traits::larger(logits[c], maximum);
      if (!has_margin()) return;
#pragma GCC unroll 8
      for (int64_t c = 0; c < size; ++c) rival = Traits::larger(is_label(first + c) ? lowest : logits[c], rival);
    });

    TileSum<Vector> sum, weighted;
    Vector true_exp{};
    Mask ties{};
    for_tiles([&](int64_t first, int64_t size) SPCL_INLINE {
      if (!one_tile()) read(first, size, logits);
#pragma GCC unroll 8
      for (int64_t c = 0; c < size; ++c) {
        values[c] = Traits::exp(logits[c] - maximum);
        sum.tile = sum.tile + values[c];
        true_exp = is_label(first + c) ? values[c] : true_exp;
      }
      if (has_entropy()) {
#pragma GCC unroll 8
        for (int64_t c = 0; c < size; ++c) {
          weighted.tile = weighted.tile + values[c] * Traits::bounded(logits[c] - maximum);
        }
      }
      if (has_margin()) {
#pragma GCC unroll 8
        for (int64_t c = 0; c < size; ++c) {
          const Mask tied = logits[c] == rival ? Mask{} + 1 : Mask{};
          ties += is_label(first + c) ? Mask{} : tied;
        }
      }
      sum.close_tile();
      weighted.close_tile();
    });

    const Vector rival_exp = has_margin() ? Traits::exp(rival - maximum) : Vector{};
    const ScoreGradients<Vector> of{load_gradients<Real>(rows.loss, begin, count),
                                    load_gradients<Real>(rows.confidence, begin, count),
                                    load_gradients<Real>(rows.entropy, begin, count),
                                    has_margin() ? load_gradients<Real>(rows.margin, begin, count) : Vector{}};
    const RowGradient<Vector> row(of, sum.total, weighted.total, true_exp, rival_exp,
                                  __builtin_convertvector(ties, Vector));
    const Mask scored = (label >= 0) & (sum.total == sum.total);
    for_tiles([&](int64_t first, int64_t size) SPCL_INLINE {
      if (!one_tile()) {
        read(first, size, logits);
        for (int64_t c = 0; c < size; ++c) values[c] = Traits::exp(logits[c] - maximum);
      }
      if (has_entropy()) {
#pragma GCC unroll 8
        for (int64_t c = 0; c < size; ++c) {
          values[c] = row.with_entropy(Traits::bounded(logits[c] - maximum), values[c]);
        }
      } else {
#pragma GCC unroll 8
        for (int64_t c = 0; c < size; ++c) values[c] = row.without_entropy(values[c]);
      }
      // One comparison decides at a time: the compiler takes comparisons that are joined apart, lane by lane.
#pragma GCC unroll 8
      for (int64_t c = 0; c < size; ++c) {
        Vector of_other = values[c];
        if (has_margin()) of_other = logits[c] == rival ? of_other - row.at_rival : of_other;
        const Vector g = is_label(first + c) ? values[c] + row.at_label : of_other;
        values[c] = scored ? g : Vector{};
      }
      write(first, size, values);
    });
  }

  SPCL_HD void write(int64_t first, int64_t size, const Vector* values) const {
    Input* out = gradient() + first;
    if (!one_tile()) {
      for (int lane = 0; lane < count; ++lane) {
        for (int64_t c = 0; c < size; ++c) out[lane * num_classes() + c] = narrow<Input>(values[c][lane]);
      }
    } else if constexpr (sizeof(Input) < sizeof(Real)) {
      Real wide[tile_classes * lanes];  // halves are put together as float32 and narrowed after
      write_rows<Real>(values, count, size, wide);
      for (int64_t k = 0; k < count * size; ++k) out[k] = narrow<Input>(wide[k]);
    } else {
      write_rows<Real>(values, count, size, out);
    }
  }

  void write_zeros() const { std::memset(gradient(), 0, static_cast<size_t>(count * num_classes()) * sizeof(Input)); }
};

template <class Input, class Real, int Fixed>
void send_back_rows(const ModalityScoresBackwardRows& rows, int64_t num_classes, int64_t begin, int64_t end,
                    const int32_t* labels) {
  using Block = BackwardBlock<Input, Real, Fixed>;
  const ModalityScoresRows& inputs = rows.inputs;
  for (int64_t t = begin; t < end; t += Block::lanes) {
    const int count = end - t < Block::lanes ? static_cast<int>(end - t) : Block::lanes;
    typename Block::Mask label = lane_labels<Real>(labels + (t - begin), count);
    if (inputs.present != nullptr) {
      for (int lane = 0; lane < count; ++lane) {
        if (inputs.present[(t + lane) * inputs.present_stride] == 0) label[lane] = -1;
      }
    }
    const Block block{rows, num_classes, t, count, label};
    if (any_lane<Real>(label >= 0)) {
      block.send_back();
    } else {
      block.write_zeros();
    }
  }
}

void modality_scores_backward(const ModalityScoresBackwardRows* rows, int64_t modalities, const LabelRows& labels,
                              int64_t begin, int64_t end) {
  int32_t classes[kModalityScoresChunk];
  class_labels(labels, begin, end, classes);
  const int64_t num_classes = labels.num_classes;
  for (int64_t m = 0; m < modalities; ++m) {
    with_classes(num_classes, [&](auto fixed) {
      constexpr int Fixed = decltype(fixed)::value;
      switch (rows[m].inputs.logits.type) {
        case FloatType::kFloat16:
          return send_back_rows<Float16, float, Fixed>(rows[m], num_classes, begin, end, classes);
        case FloatType::kBFloat16:
          return send_back_rows<BFloat16, float, Fixed>(rows[m], num_classes, begin, end, classes);
        case FloatType::kFloat32:
          return send_back_rows<float, float, Fixed>(rows[m], num_classes, begin, end, classes);
        case FloatType::kFloat64:
          return send_back_rows<double, double, 0>(rows[m], num_classes, begin, end, classes);
      }
    });
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
