// The kernel, for the instruction set being compiled (see cpu/every_isa.h): one row a lane.

#include "cpu/lanes.h"
//
#include "cpu/row_tile.h"
#include "cpu/sum16.h"
#include "math/modality_scores.h"

namespace spcl {
namespace SPCL_ISA {

/// As many rows of one modality as a vector has lanes. `Fixed` is the number of classes, or 0 for any.
template <class Input, class Real, int Fixed>
struct RowBlock {
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  using Mask = typename Traits::Mask;
  static constexpr int lanes = Traits::count;
  static constexpr int64_t tile_classes = Fixed > 0 ? Fixed : kTileClasses;

  /// `label` holds the class of each row, -1 where there is nothing to score.
  SPCL_HD static RowScores<Vector> score(const FloatRows& z, int64_t runtime_classes, int64_t begin, int count,
                                         Mask label) {
    const int64_t num_classes = Fixed > 0 ? Fixed : runtime_classes;
    const bool one_tile = num_classes <= tile_classes;
    const char* rows = z.data + begin * z.row_stride;
    Vector tile[tile_classes];
    const auto read = [&](int64_t first) SPCL_INLINE {
      const int64_t classes = num_classes - first < tile_classes ? num_classes - first : tile_classes;
      read_rows<Input, Real, Fixed>(rows + first * z.class_stride, z.row_stride, z.class_stride, count, classes, tile);
      return classes;
    };
    Vector maximum = Vector{} - static_cast<Real>(__builtin_inf());
    for (int64_t first = 0; first < num_classes; first += tile_classes) {
      const int64_t classes = read(first);
#pragma GCC unroll 8
      for (int64_t c = 0; c < classes; ++c) maximum = Traits::larger(tile[c], maximum);
    }
    RowSums<Vector> sums(Vector{} + static_cast<Real>(__builtin_nan("")), num_classes > 1);
    for (int64_t first = 0; first < num_classes; first += tile_classes) {
      const int64_t classes = one_tile ? num_classes : read(first);
#pragma GCC unroll 8
      for (int64_t c = 0; c < classes; ++c) {
        const Vector shift = tile[c] - maximum;
        const Mask is_true = label == static_cast<typename Traits::Index>(first + c);
        sums.add(shift, Traits::bounded(shift), Traits::exp(shift), is_true,
                 [](Vector a, Vector b, Vector c) SPCL_INLINE { return Traits::multiply_add(a, b, c); });
      }
      if (one_tile) {
        sums.close_only_tile();
      } else {
        sums.close_tile();
      }
    }
    return sums.finish([](Vector x) SPCL_INLINE { return Traits::log(x); });
  }
};

template <class Input, class Real, int Fixed>
void score_rows(const ModalityScoresRows& rows, int64_t num_classes, int64_t begin, int64_t end,
                const int32_t* labels) {
  using Block = RowBlock<Input, Real, Fixed>;
  using Vector = typename Block::Vector;
  using Mask = typename Block::Mask;
  for (int64_t t = begin; t < end; t += Block::lanes) {
    const int count = end - t < Block::lanes ? static_cast<int>(end - t) : Block::lanes;
    Mask label = lane_labels<Real>(labels + (t - begin), count);
    if (rows.present != nullptr) {
      for (int lane = 0; lane < count; ++lane) {
        if (rows.present[(t + lane) * rows.present_stride] == 0) label[lane] = -1;
      }
    }
    const Vector nan = Vector{} + static_cast<Real>(__builtin_nan(""));
    RowScores<Vector> scores{nan, nan, nan, nan};
    if (any_lane<Real>(label >= 0)) scores = Block::score(rows.logits, num_classes, t, count, label);
    store_lanes<Real>(scores.loss, count, static_cast<Real*>(rows.loss) + t);
    store_lanes<Real>(scores.confidence, count, static_cast<Real*>(rows.confidence) + t);
    store_lanes<Real>(scores.entropy, count, static_cast<Real*>(rows.entropy) + t);
    store_lanes<Real>(scores.margin, count, static_cast<Real*>(rows.margin) + t);
  }
}

void modality_scores(const ModalityScoresRows* rows, int64_t modalities, const LabelRows& labels, int64_t begin,
                     int64_t end) {
  int32_t classes[kModalityScoresChunk];
  class_labels(labels, begin, end, classes);
  for (int64_t m = 0; m < modalities; ++m) {
    const int64_t num_classes = labels.num_classes;
    with_classes(num_classes, [&](auto fixed) {
      constexpr int Fixed = decltype(fixed)::value;
      switch (rows[m].logits.type) {
        case FloatType::kFloat16:
          return score_rows<Float16, float, Fixed>(rows[m], num_classes, begin, end, classes);
        case FloatType::kBFloat16:
          return score_rows<BFloat16, float, Fixed>(rows[m], num_classes, begin, end, classes);
        case FloatType::kFloat32:
          return score_rows<float, float, Fixed>(rows[m], num_classes, begin, end, classes);
        case FloatType::kFloat64:
          return score_rows<double, double, 0>(rows[m], num_classes, begin, end, classes);
      }
    });
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
