// `window_coherence` of predictions: one utterance a lane, softmax fused; for the instruction set being compiled (see
// cpu/every_isa.h).
//
// The cosine of two vectors does not change when either is divided by its sum, so exp(z - max z) stands for softmax.

namespace spcl {
namespace SPCL_ISA {

template <class Input>
class PredictionRows {
 public:
  using Real = typename Arithmetic<Input>::Real;
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  static constexpr int block_rows = Traits::count;

  /// Classes of a block of utterances.
  struct Tile {
    Vector values[kTileClasses];
    Vector at(int64_t n) const { return values[n]; }
  };

  PredictionRows(const CoherenceBatch& batch, CoherenceMemory& memory)
      : batch_(batch),
        memory_(memory),
        tile_(reinterpret_cast<Tile*>(memory.tiles)),
        maximum_(reinterpret_cast<Vector*>(memory.maxima)) {}

  /// Fills the block with the utterances [first, first + count).
  void read(int64_t first, int count) {
    CoherenceBlock& block = memory_.block;
    const int64_t M = batch_.modalities;
    for (int64_t m = 0; m < M; ++m) find_maximum(m, first, count);
    std::memset(block.products, 0, static_cast<size_t>(M * (M + 1) / 2) * sizeof(BlockRow));
    for (int64_t c = 0; c < batch_.columns; c += kTileClasses) {
      const int64_t classes = read_exponentials(first, count, c);
      BlockRow* product = block.products;
      for (int64_t i = 0; i < M; ++i) {
        for (int64_t j = i; j < M; ++j, ++product) {
          const Vector sum = product_of(tile_[i], tile_[j], classes);
          for (int lane = 0; lane < Traits::count; ++lane) product->at[lane] += static_cast<double>(sum[lane]);
        }
      }
    }
    block.faulty = {};
    for (int64_t m = 0; m < M; ++m) {
      const BlockRow& square = block.product(m, m);
      for (int k = 0; k < block_rows; ++k) {
        // NaN and +Inf, and -Inf everywhere, give a NaN difference to the maximum.
        const bool has = k < count && is_present(batch_, m, first + k), is_number = square.at[k] == square.at[k];
        block.usable[m].at[k] = has && is_number ? 1 : 0;
        if (has && !is_number) block.faulty.at[k] = 1;
      }
    }
  }

  /// Writes the gradient of the utterances that were read, from the block's coefficients.
  void write_gradient(int64_t first, int count, const CoherenceGradient& gradient) {
    const int64_t M = batch_.modalities;
    auto* const weight = reinterpret_cast<Vector*>(memory_.coefficients);
    for (int64_t pair = 0; pair < M * M; ++pair) {
      for (int lane = 0; lane < Traits::count; ++lane) {
        weight[pair][lane] = static_cast<Real>(memory_.block.coefficients[pair].at[lane]);
      }
    }
    Tile& out = tile_[M];
    for (int64_t c = 0; c < batch_.columns; c += kTileClasses) {
      const bool one_tile = batch_.columns <= kTileClasses;
      const int64_t classes = one_tile ? batch_.columns : read_exponentials(first, count, c);
      for (int64_t m = 0; m < M; ++m) drop_unusable(m, classes);
      for (int64_t i = 0; i < M; ++i) {
        for (int64_t n = 0; n < classes; ++n) {
          Vector sum{};
          for (int64_t j = 0; j < M; ++j) sum = Traits::multiply_add(weight[i * M + j], tile_[j].at(n), sum);
          // The softmax has a second term, e times the sum of e d(loss)/de, and that is 0: lengths do not count.
          sum *= tile_[i].at(n);
          out.values[n] = sum;
        }
        char* const rows = gradient.of_rows + ((i * gradient.utterances + first) * batch_.columns + c) *
                                                  static_cast<int64_t>(sizeof(Input));
        write(out, count, classes, rows);
      }
    }
  }

 private:
  /// In four sums, for accuracy and because an addition has to wait for the one before.
  SPCL_HD static Vector product_of(const Tile& a, const Tile& b, int64_t classes) {
    Vector sum[4] = {};
    int64_t n = 0;
    for (; n + 4 <= classes; n += 4) {
      for (int k = 0; k < 4; ++k) sum[k] = Traits::multiply_add(a.at(n + k), b.at(n + k), sum[k]);
    }
    for (; n < classes; ++n) sum[0] = Traits::multiply_add(a.at(n), b.at(n), sum[0]);
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
  }

  SPCL_HD int64_t read_tile_of(int64_t m, int64_t first, int count, int64_t c) {
    const FloatRows& z = batch_.rows[m];
    const int64_t classes = batch_.columns - c < kTileClasses ? batch_.columns - c : kTileClasses;
    const char* const address = z.data + first * z.row_stride + c * z.class_stride;
    read_rows<Input, Real, 0>(address, z.row_stride, z.class_stride, count, classes, tile_[m].values);
    return classes;
  }

  void find_maximum(int64_t m, int64_t first, int count) {
    Vector maximum = Vector{} - static_cast<Real>(__builtin_inf());
    for (int64_t c = 0; c < batch_.columns; c += kTileClasses) {
      const int64_t classes = read_tile_of(m, first, count, c);
      for (int64_t n = 0; n < classes; ++n) maximum = Traits::larger(tile_[m].at(n), maximum);
    }
    maximum_[m] = maximum;
  }

  /// exp(z - max z) of up to kTileClasses classes from `c` on, of every modality; returns how many.
  int64_t read_exponentials(int64_t first, int count, int64_t c) {
    int64_t classes = batch_.columns;
    for (int64_t m = 0; m < batch_.modalities; ++m) {
      if (batch_.columns > kTileClasses) classes = read_tile_of(m, first, count, c);
      for (int64_t n = 0; n < classes; ++n) {
        const Vector e = Traits::exp(tile_[m].at(n) - maximum_[m]);
        tile_[m].values[n] = e;
      }
    }
    return classes;
  }

  /// Zeros for the vectors that take no part: they may hold NaN, and 0 NaN is NaN.
  void drop_unusable(int64_t m, int64_t classes) {
    Vector usable;
    for (int lane = 0; lane < Traits::count; ++lane) {
      usable[lane] = static_cast<Real>(memory_.block.usable[m].at[lane] * (1 - memory_.block.faulty.at[lane]));
    }
    for (int64_t n = 0; n < classes; ++n) {
      const Vector e = usable != Vector{} ? tile_[m].at(n) : Vector{};
      tile_[m].values[n] = e;
    }
  }

  void write(const Tile& values, int count, int64_t classes, char* rows) const {
    if constexpr (std::is_same_v<Input, Real>) {
      if (classes == batch_.columns) {
        return write_rows<Real>(values.values, count, classes, reinterpret_cast<Real*>(rows));
      }
    }
    for (int lane = 0; lane < count; ++lane) {
      for (int64_t n = 0; n < classes; ++n) {
        const Input number = narrow<Input>(values.values[n][lane]);
        std::memcpy(rows + (lane * batch_.columns + n) * static_cast<int64_t>(sizeof(Input)), &number, sizeof number);
      }
    }
  }

  const CoherenceBatch& batch_;
  CoherenceMemory& memory_;
  Tile* const tile_;
  Vector* const maximum_;
};

}  // namespace SPCL_ISA
}  // namespace spcl
