// The kernel, for the instruction set being compiled (see cpu/every_isa.h): one row a lane.

#include "cpu/lanes.h"
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
  static constexpr int64_t tile_classes = 64;

  const char* row[lanes];  // a lane with nothing to score reads the row of one that has
  Mask label;              // -1: nothing to score
  alignas(SPCL_VECTOR_BYTES) Real tile[tile_classes][lanes];

  /// Returns false when no row of the block is to be scored.
  bool find_rows(const ModalityScoresRows& rows, int64_t begin, int count) {
    const char* readable = nullptr;
    for (int lane = 0; lane < lanes; ++lane) {
      row[lane] = nullptr;
      label[lane] = -1;
      if (lane >= count) continue;
      const int64_t t = begin + lane;
      if (rows.present != nullptr && rows.present[t * rows.present_stride] == 0) continue;
      const int64_t y = load_integer(rows.labels_type, rows.labels + t * rows.labels_stride);
      if (y < 0 || y >= rows.num_classes || y == rows.ignore_index) continue;
      label[lane] = static_cast<typename Traits::Index>(y);
      row[lane] = readable = rows.logits + t * rows.logits_row_stride;
    }
    if (readable == nullptr) return false;
    for (int lane = 0; lane < lanes; ++lane) {
      if (row[lane] == nullptr) row[lane] = readable;
    }
    return true;
  }

  void read_tile(const ModalityScoresRows& rows, int64_t first_class, int64_t classes) {
    for (int lane = 0; lane < lanes; ++lane) {
      const char* address = row[lane] + first_class * rows.logits_class_stride;
      for (int64_t c = 0; c < classes; ++c) {
        tile[c][lane] = widen(load_as<Input>(address + c * rows.logits_class_stride));
      }
    }
  }

  SPCL_HD Vector at(int64_t c) const { return *reinterpret_cast<const Vector*>(tile[c]); }

  RowScores<Vector> score(const ModalityScoresRows& rows) {
    const int64_t num_classes = rows.num_classes;
    const bool one_tile = num_classes <= tile_classes;
    Vector maximum = Vector{} - static_cast<Real>(__builtin_inf());
    for (int64_t first = 0; first < num_classes; first += tile_classes) {
      const int64_t classes = num_classes - first < tile_classes ? num_classes - first : tile_classes;
      read_tile(rows, first, classes);
      for (int64_t c = 0; c < classes; ++c) maximum = at(c) > maximum ? at(c) : maximum;
    }
    RowSums<Vector> sums(Vector{} + static_cast<Real>(__builtin_nan("")), num_classes > 1);
    for (int64_t first = 0; first < num_classes; first += tile_classes) {
      const int64_t classes = num_classes - first < tile_classes ? num_classes - first : tile_classes;
      if (!one_tile) read_tile(rows, first, classes);
      for (int64_t c = 0; c < classes; ++c) {
        const Vector shift = at(c) - maximum;
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
  Block block;
  for (; begin < end; begin += Block::lanes) {
    const int count = end - begin < Block::lanes ? static_cast<int>(end - begin) : Block::lanes;
    const Vector nan = Vector{} + static_cast<Real>(__builtin_nan(""));
    RowScores<Vector> scores{nan, nan, nan, nan};
    if (block.find_rows(rows, begin, count)) scores = block.score(rows);
    store<Vector, Real>(scores.loss, rows.loss, begin, count);
    store<Vector, Real>(scores.confidence, rows.confidence, begin, count);
    store<Vector, Real>(scores.entropy, rows.entropy, begin, count);
    store<Vector, Real>(scores.margin, rows.margin, begin, count);
  }
}

void modality_scores(const ModalityScoresRows& rows, int64_t begin, int64_t end) {
  switch (rows.logits_type) {
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
