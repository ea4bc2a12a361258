// `window_coherence` of embeddings: one utterance after the other, its vectors read once; for the instruction set
// being compiled (see cpu/every_isa.h).

namespace spcl {
namespace SPCL_ISA {

template <class Input>
class EmbeddingRows {
 public:
  using Real = typename Arithmetic<Input>::Real;
  static constexpr int block_rows = kBlockRows;

  EmbeddingRows(const CoherenceBatch& batch, CoherenceMemory& memory) : batch_(batch), memory_(memory) {}

  /// Fills the block with the utterances [first, first + count).
  void read(int64_t first, int count) {
    for (int k = 0; k < count; ++k) {
      const int64_t t = first + k;
      switch (batch_.modalities) {
        case 2:
          find_products<2>(t, k);
          break;
        case 3:
          find_products<3>(t, k);
          break;
        case 4:
          find_products<4>(t, k);
          break;
        default:
          find_all_products(t, k);
      }
    }
    judge(first, count);
  }

  /// Writes the gradient of the utterances that were read, from the block's coefficients.
  void write_gradient(int64_t first, int count, const CoherenceGradient& gradient) {
    for (int k = 0; k < count; ++k) {
      int64_t used = 0;
      for (int64_t m = 0; m < batch_.modalities; ++m) used += memory_.block.usable[m].at[k] != 0;
      const bool has_gradient = used >= 2 && memory_.block.faulty.at[k] == 0;
      for (int64_t m = 0; m < batch_.modalities; ++m) {
        char* const out = gradient_row(gradient, m, first + k);
        if (has_gradient && memory_.block.usable[m].at[k] != 0) continue;
        std::memset(out, 0, static_cast<size_t>(batch_.columns) * sizeof(Input));
      }
      if (!has_gradient) continue;
      switch (used) {
        case 2:
          combine<2>(first + k, k, used, gradient);
          break;
        case 3:
          combine<3>(first + k, k, used, gradient);
          break;
        case 4:
          combine<4>(first + k, k, used, gradient);
          break;
        default:
          combine<0>(first + k, k, used, gradient);
      }
    }
  }

 private:
  using Vector = typename Lanes<Real>::Vector;
  static constexpr int64_t itemsize = sizeof(Input);
  static constexpr int lanes = Lanes<Real>::count;

  /// Elements [f, f + count) of a vector, side by side.
  SPCL_HD const char* elements(int64_t m, int64_t t, int64_t f, int64_t count) {
    const FloatRows& rows = batch_.rows[m];
    const char* const address = rows.data + t * rows.row_stride + f * rows.class_stride;
    if (rows.class_stride == itemsize) return address;
    char* const copy = memory_.columns + m * kDotElements * 8;
    for (int64_t c = 0; c < count; ++c) {
      const Input number = load_as<Input>(address + c * rows.class_stride);
      std::memcpy(copy + c * itemsize, &number, sizeof number);
    }
    return copy;
  }

  SPCL_HD int64_t piece(int64_t f) const {
    return batch_.columns - f < kDotElements ? batch_.columns - f : kDotElements;
  }

  template <int rows>
  SPCL_HD void find_products(int64_t t, int k) {
    constexpr int pairs = kProducts<rows, Products::kAll>;
    ProductSum sums[pairs];
    add_piece<rows, true>(t, 0, sums);
    if (batch_.columns > kDotElements) add_other_pieces<rows>(t, sums);
    double totals[pairs];
    find_totals<pairs>(sums, totals);
    for (int pair = 0; pair < pairs; ++pair) memory_.block.products[pair].at[k] = totals[pair];
  }

  template <int rows, bool begins>
  SPCL_HD void add_piece(int64_t t, int64_t f, ProductSum* sums) {
    const char* row[rows];
    for (int m = 0; m < rows; ++m) row[m] = elements(m, t, f, piece(f));
    add_products<Input, rows, Products::kAll, begins>(row, piece(f), sums);
  }

  template <int rows>
  __attribute__((noinline)) void add_other_pieces(int64_t t, ProductSum* sums) {
    for (int64_t f = kDotElements; f < batch_.columns; f += kDotElements) add_piece<rows, false>(t, f, sums);
  }

  void find_all_products(int64_t t, int k) {
    const int64_t M = batch_.modalities, pairs = M * (M + 1) / 2;
    add_all_products<true>(t, 0);
    for (int64_t f = kDotElements; f < batch_.columns; f += kDotElements) add_all_products<false>(t, f);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      find_totals<1>(memory_.sums + pair, &memory_.block.products[pair].at[k]);
    }
  }

  template <bool begins>
  void add_all_products(int64_t t, int64_t f) {
    const int64_t M = batch_.modalities;
    for (int64_t m = 0; m < M; ++m) memory_.row[m] = elements(m, t, f, piece(f));
    ProductSum* sum = memory_.sums;
    for (int64_t i = 0; i < M; ++i) {
      add_products<Input, 1, Products::kAll, begins>(memory_.row + i, piece(f), sum++);
      for (int64_t j = i + 1; j < M; ++j) {
        const char* const row[2] = {memory_.row[i], memory_.row[j]};
        add_products<Input, 2, Products::kFirstTwo, begins>(row, piece(f), sum++);
      }
    }
  }

  /// Which vectors take part, where every sum lies in its range.
  void judge(int64_t first, int count) {
    CoherenceBlock& block = memory_.block;
    BlockRow strange{};
    for (int64_t m = 0; m < batch_.modalities; ++m) {
      BlockRow &usable = block.usable[m], &scale = block.scale[m];
      const BlockRow& square = block.product(m, m);
      for (int k = 0; k < kBlockRows; ++k) usable.at[k] = scale.at[k] = 1;
      for (int k = 0; k < count && batch_.present != nullptr; ++k) {
        usable.at[k] = is_present(batch_, m, first + k) ? 1 : 0;
      }
      for (int k = 0; k < kBlockRows; ++k) {
        strange.at[k] += is_in_range(square.at[k], std::is_same_v<Real, double>) ? 0 : usable.at[k];
      }
    }
    block.faulty = {};
    for (int k = 0; k < count; ++k) {
      if (strange.at[k] != 0) judge_strange(first + k, k);
    }
  }

  /// The same where a sum does not: the vector is zero, at fault, or of a magnitude that needs care.
  void judge_strange(int64_t t, int k) {
    CoherenceBlock& block = memory_.block;
    const int64_t M = batch_.modalities;
    bool again = false;
    for (int64_t m = 0; m < M; ++m) {
      if (block.usable[m].at[k] == 0 || is_in_range(block.product(m, m).at[k], std::is_same_v<Real, double>)) continue;
      double largest = 0;
      for (int64_t f = 0; f < batch_.columns; f += kDotElements) {
        const double here = largest_magnitude<Input>(elements(m, t, f, piece(f)), piece(f));
        largest = here > largest ? here : largest;
      }
      if (largest == __builtin_inf()) {
        block.faulty.at[k] = 1;
        return;
      }
      block.usable[m].at[k] = largest > 0 ? 1 : 0;
      block.scale[m].at[k] = scale_for(largest);
      again |= largest > 0;
    }
    for (int64_t i = 0; again && i < M; ++i) {
      for (int64_t j = i; j < M; ++j) {
        if (block.usable[i].at[k] * block.usable[j].at[k] == 0) continue;
        Sum16 sum;
        for (int64_t f = 0; f < batch_.columns; f += kDotElements) {
          add_scaled_product<Input>(elements(i, t, f, piece(f)), elements(j, t, f, piece(f)), block.scale[i].at[k],
                                    block.scale[j].at[k], piece(f), sum);
        }
        block.product(i, j).at[k] = sum.total();
      }
    }
  }

  SPCL_HD char* gradient_row(const CoherenceGradient& gradient, int64_t m, int64_t t) const {
    return gradient.of_rows + (m * gradient.utterances + t) * batch_.columns * itemsize;
  }

  /// Gradient of the `used` usable vectors of an utterance: their combinations, in float64. `rows` is `used`, or 0.
  template <int rows>
  SPCL_HD void combine(int64_t t, int k, int64_t used, const CoherenceGradient& gradient) {
    constexpr int most = rows == 0 ? static_cast<int>(CoherenceBatch::max_modalities) : rows;
    int64_t of[most];
    for (int64_t m = 0, n = 0; m < batch_.modalities; ++m) {
      if (memory_.block.usable[m].at[k] != 0) of[n++] = m;
    }
    const char* row[most];
    char* out[most];
    for (int64_t f = 0; f < batch_.columns; f += kDotElements) {
      for (int64_t n = 0; n < (rows == 0 ? used : rows); ++n) {
        row[n] = elements(of[n], t, f, piece(f));
        out[n] = gradient_row(gradient, of[n], t) + f * itemsize;
      }
      if constexpr (rows == 0) combine_piece(row, of, k, used, piece(f), out);
      if constexpr (rows != 0) combine_piece<rows>(row, of, k, piece(f), out);
    }
  }

  template <int rows>
  SPCL_HD void combine_piece(const char* const* row, const int64_t* of, int k, int64_t elements, char* const* out) {
    const CoherenceBlock& block = memory_.block;
    double scale[rows], weight[rows][rows];
    for (int i = 0; i < rows; ++i) {
      scale[i] = block.scale[of[i]].at[k];
      for (int j = 0; j < rows; ++j) weight[i][j] = block.coefficients[of[i] * block.modalities + of[j]].at[k];
    }
    const auto combine = [&](int64_t at, int count) __attribute__((always_inline)) {
      Doubles x[rows];
      for (int j = 0; j < rows; ++j) x[j] = scaled(row[j] + at, count, scale[j]);
      for (int i = 0; i < rows; ++i) {
        Doubles sum{};
        for (int j = 0; j < rows; ++j) sum.add(x[j], weight[i][j]);
        store_narrowed<Input>(sum.times(scale[i]), count, out[i] + at);
      }
    };
    const int64_t whole = elements / lanes * lanes;
    for (int64_t c = 0; c < whole; c += lanes) combine(c * itemsize, lanes);
    if (whole < elements) combine(whole * itemsize, static_cast<int>(elements - whole));
  }

  /// The same for more rows than there are registers.
  void combine_piece(const char* const* row, const int64_t* of, int k, int64_t used, int64_t elements,
                     char* const* out) {
    const CoherenceBlock& block = memory_.block;
    for (int64_t c = 0; c < elements; c += lanes) {
      const int count = elements - c < lanes ? static_cast<int>(elements - c) : lanes;
      for (int64_t i = 0; i < used; ++i) {
        Doubles sum{};
        for (int64_t j = 0; j < used; ++j) {
          sum.add(scaled(row[j] + c * itemsize, count, block.scale[of[j]].at[k]),
                  block.coefficients[of[i] * block.modalities + of[j]].at[k]);
        }
        store_narrowed<Input>(sum.times(block.scale[of[i]].at[k]), count, out[i] + c * itemsize);
      }
    }
  }

  /// A vector of Real in float64. Only float64 rows have scales.
  struct Doubles {
    static constexpr int parts = AsDoubles::count<Real>;
    Lanes<double>::Vector part[parts];

    SPCL_HD void add(const Doubles& x, double weight) {
      const Lanes<double>::Vector w = Lanes<double>::Vector{} + weight;
      for (int p = 0; p < parts; ++p) part[p] = Lanes<double>::multiply_add(x.part[p], w, part[p]);
    }
    SPCL_HD Vector times(double scale) const {
      if constexpr (std::is_same_v<Real, double>) return part[0] * scale;
      return from_doubles(part, Real{});
    }
  };

  SPCL_HD static Doubles scaled(const char* address, int count, double scale) {
    const AsDoubles x(load_widened<Input>(address, count));
    Doubles result;
    for (int p = 0; p < Doubles::parts; ++p) result.part[p] = x.parts[p];
    if constexpr (std::is_same_v<Real, double>) result.part[0] *= scale;
    return result;
  }

  const CoherenceBatch& batch_;
  CoherenceMemory& memory_;
};

}  // namespace SPCL_ISA
}  // namespace spcl
