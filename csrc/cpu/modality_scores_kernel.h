// The kernel, for the instruction set being compiled (see cpu/every_isa.h): one row a lane.

#include "cpu/lanes.h"
//
#include "cpu/row_tile.h"
#include "math/modality_scores.h"

namespace spcl {
namespace SPCL_ISA {

/// As many rows as a vector has lanes, and which of them there is anything to score in.
template <class Input, class Real>
struct RowBlock {
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  using Mask = typename Traits::Mask;
  static constexpr int lanes = Traits::count;

  explicit RowBlock(int64_t num_classes) : row_tiles(num_classes) {}

  const RowTiles<Input, Real> row_tiles;
  Mask label;  // -1: nothing to score
  Tile<Real> tile;

  /// Returns false when no row of the block is to be scored.
  bool find_labels(const ModalityScoresRows& rows, int64_t begin, int count) {
    bool any = false;
    for (int lane = 0; lane < lanes; ++lane) {
      label[lane] = -1;
      if (lane >= count) continue;
      const int64_t t = begin + lane;
      if (rows.present != nullptr && rows.present[t * rows.present_stride] == 0) continue;
      const int64_t y = load_integer(rows.labels_type, rows.labels + t * rows.labels_stride);
      if (y < 0 || y >= rows.num_classes || y == rows.ignore_index) continue;
      label[lane] = static_cast<typename Traits::Index>(y);
      any = true;
    }
    return any;
  }

  void read(const ModalityScoresRows& rows, int64_t begin, int count, int64_t first_class, int64_t size) {
    const FloatRows& z = rows.logits;
    const char* address = z.data + begin * z.row_stride + first_class * z.class_stride;
    row_tiles.read(address, z.row_stride, z.class_stride, count, size, tile.values);
  }

  RowScores<Vector> score(const ModalityScoresRows& rows, int64_t begin, int count) {
    const int64_t num_classes = rows.num_classes;
    const bool one_tile = num_classes <= kTileClasses;
    Vector maximum = Vector{} - static_cast<Real>(__builtin_inf());
    for (int64_t first = 0; first < num_classes; first += kTileClasses) {
      const int64_t classes = num_classes - first < kTileClasses ? num_classes - first : kTileClasses;
      read(rows, begin, count, first, classes);
      for (int64_t c = 0; c < classes; ++c) maximum = Traits::larger(tile.at(c), maximum);
    }
    RowSums<Vector> sums(Vector{} + static_cast<Real>(__builtin_nan("")), num_classes > 1);
    for (int64_t first = 0; first < num_classes; first += kTileClasses) {
      const int64_t classes = num_classes - first < kTileClasses ? num_classes - first : kTileClasses;
      if (!one_tile) read(rows, begin, count, first, classes);
      for (int64_t c = 0; c < classes; ++c) {
        const Vector shift = tile.at(c) - maximum;
        sums.add(shift, Traits::exp(shift), label == static_cast<typename Traits::Index>(first + c));
      }
      sums.close_tile();
    }
    return sums.finish([](Vector x) { return Traits::log(x); });
  }
};

template <class Vector, class Real>
void store(Vector values, void* out, int64_t begin, int count) {
  std::memcpy(static_cast<Real*>(out) + begin, &values, count * sizeof(Real));
}

template <class Input, class Real>
void modality_scores(const ModalityScoresRows& rows, int64_t begin, int64_t end) {
  using Block = RowBlock<Input, Real>;
  using Vector = typename Block::Vector;
  Block block(rows.num_classes);
  for (; begin < end; begin += Block::lanes) {
    const int count = end - begin < Block::lanes ? static_cast<int>(end - begin) : Block::lanes;
    const Vector nan = Vector{} + static_cast<Real>(__builtin_nan(""));
    RowScores<Vector> scores{nan, nan, nan, nan};
    if (block.find_labels(rows, begin, count)) scores = block.score(rows, begin, count);
    store<Vector, Real>(scores.loss, rows.loss, begin, count);
    store<Vector, Real>(scores.confidence, rows.confidence, begin, count);
    store<Vector, Real>(scores.entropy, rows.entropy, begin, count);
    store<Vector, Real>(scores.margin, rows.margin, begin, count);
  }
}

void modality_scores(const ModalityScoresRows& rows, int64_t begin, int64_t end) {
  switch (rows.logits.type) {
    case FloatType::kFloat16:
      return modality_scores<Float16, float>(rows, begin, end);
    case FloatType::kBFloat16:
      return modality_scores<BFloat16, float>(rows, begin, end);
    case FloatType::kFloat32:
      return modality_scores<float, float>(rows, begin, end);
    case FloatType::kFloat64:
      return modality_scores<double, double>(rows, begin, end);
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
