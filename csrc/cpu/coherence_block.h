// Sixteen utterances of `window_coherence` at a time, from the products of their vectors on; for the instruction set
// being compiled (see cpu/every_isa.h).

namespace spcl {
namespace SPCL_ISA {

inline constexpr int kBlockRows = 16;

/// One number for each utterance of a block.
struct alignas(64) BlockRow {
  double at[kBlockRows];
};

/// What is known of the vectors of a block, and what follows from it. Loops are over all sixteen, used or not.
struct CoherenceBlock {
  int64_t modalities;
  BlockRow* products;      // [modalities (modalities + 1) / 2], of the vectors times their scales
  BlockRow* usable;        // [modalities], 1 or 0: present, finite, not zero
  BlockRow* scale;         // [modalities], powers of two
  BlockRow* norm;          // [modalities], of the vectors times their scales
  BlockRow* coefficients;  // [modalities, modalities], of the gradient
  BlockRow faulty;         // 1 or 0: a vector that is present holds a NaN or Inf

  BlockRow& product(int64_t i, int64_t j) const { return products[product_index(i, j, modalities)]; }

  void find_norms() {
    for (int64_t m = 0; m < modalities; ++m) {
      const BlockRow& square = product(m, m);
      for (int k = 0; k < kBlockRows; ++k) {
        norm[m].at[k] = __builtin_sqrt(usable[m].at[k] != 0 ? square.at[k] : 1.0);
      }
    }
  }

  /// Adds, for every pair i < j of usable vectors, its cosine and 1.
  void sum_cosines(BlockRow& sum, BlockRow& pairs) const {
    sum = pairs = {};
    for (int64_t i = 0; i < modalities; ++i) {
      for (int64_t j = i + 1; j < modalities; ++j) {
        const BlockRow& dot = product(i, j);
        for (int k = 0; k < kBlockRows; ++k) {
          const double both = usable[i].at[k] * usable[j].at[k];
          sum.at[k] += both != 0 ? cosine(dot.at[k], norm[i].at[k], norm[j].at[k]) : 0.0;
          pairs.at[k] += both;
        }
      }
    }
  }

  /// The coherence of each utterance, undefined or faulty where it has none.
  void coherence(double* result, int count) {
    BlockRow sum, pairs;
    find_norms();
    sum_cosines(sum, pairs);
    for (int k = 0; k < kBlockRows; ++k) {
      const double mean = pairs.at[k] > 0 ? sum.at[k] / pairs.at[k] : undefined_coherence();
      sum.at[k] = faulty.at[k] != 0 ? faulty_coherence() : mean;
    }
    std::memcpy(result, sum.at, static_cast<size_t>(count) * sizeof(double));
  }

  /// The coefficients K with d(loss)/d(scaled vector i) = sum over j of K[i, j] scaled vector j, given
  /// d(loss)/d(coherence). Zero where there is no pair or a fault.
  void find_coefficients(const double* of_coherence, int count) {
    BlockRow unused, pairs, share{};
    find_norms();
    sum_cosines(unused, pairs);
    for (int k = 0; k < count; ++k) {
      share.at[k] = pairs.at[k] > 0 && faulty.at[k] == 0 ? of_coherence[k] / pairs.at[k] : 0.0;
    }
    for (int64_t i = 0; i < modalities; ++i) coefficients[i * modalities + i] = {};
    for (int64_t i = 0; i < modalities; ++i) {
      for (int64_t j = i + 1; j < modalities; ++j) {
        const BlockRow& dot = product(i, j);
        for (int k = 0; k < kBlockRows; ++k) {
          const double a = norm[i].at[k], b = norm[j].at[k];
          const bool counts = usable[i].at[k] * usable[j].at[k] != 0;
          const double g = counts ? share.at[k] : 0.0;
          const double along = counts ? g * cosine(dot.at[k], a, b) : 0.0;
          const double across = g / (a * b);
          coefficients[i * modalities + j].at[k] = across;
          coefficients[j * modalities + i].at[k] = across;
          coefficients[i * modalities + i].at[k] -= along / (a * a);
          coefficients[j * modalities + j].at[k] -= along / (b * b);
        }
      }
    }
  }
};

}  // namespace SPCL_ISA
}  // namespace spcl
