// Sixteen utterances of `window_coherence` at a time, from the products of their vectors on; for the instruction set
// being compiled (see cpu/every_isa.h).

namespace spcl {
namespace SPCL_ISA {

inline constexpr int kBlockRows = 16;

/// One number for each utterance of a block.
struct alignas(64) BlockRow {
  using Vector = Lanes<double>::Vector;
  static constexpr int parts = kBlockRows / Lanes<double>::count;
  double at[kBlockRows];

  SPCL_HD Vector& part(int p) { return reinterpret_cast<Vector*>(at)[p]; }
  SPCL_HD Vector part(int p) const { return reinterpret_cast<const Vector*>(at)[p]; }
};

/// What is known of the vectors of a block, and what follows from it. All sixteen are computed, used or not.
struct CoherenceBlock {
  using Vector = BlockRow::Vector;
  int64_t modalities;
  BlockRow* products;      // [modalities (modalities + 1) / 2], of the vectors times their scales
  BlockRow* usable;        // [modalities], 1 or 0: present, finite, not zero
  BlockRow* scale;         // [modalities], powers of two
  BlockRow* norm;          // [modalities], of the vectors times their scales
  BlockRow* coefficients;  // [modalities, modalities], of the gradient
  BlockRow faulty;         // 1 or 0: a vector that is present holds a NaN or Inf

  BlockRow& product(int64_t i, int64_t j) const { return products[product_index(i, j, modalities)]; }

  /// The coherence of each utterance, undefined or faulty where it has none.
  void coherence(double* result, int count) {
    BlockRow mean;
    find_norms();
    for (int p = 0; p < BlockRow::parts; ++p) {
      const Sums sums = sum_cosines(p);
      const Vector undefined = Vector{} + undefined_coherence(), fault = Vector{} + faulty_coherence();
      mean.part(p) = sums.pairs > 0 ? sums.cosines / sums.pairs : undefined;
      mean.part(p) = faulty.part(p) != 0 ? fault : mean.part(p);
    }
    std::memcpy(result, mean.at, static_cast<size_t>(count) * sizeof(double));
  }

  /// The coefficients K with d(loss)/d(scaled vector i) = sum over j of K[i, j] scaled vector j, given
  /// d(loss)/d(coherence). Zero where there is no pair or a fault.
  void find_coefficients(const double* of_coherence, int count) {
    BlockRow given{};
    std::memcpy(given.at, of_coherence, static_cast<size_t>(count) * sizeof(double));
    find_norms();
    for (int p = 0; p < BlockRow::parts; ++p) {
      const Sums sums = sum_cosines(p);
      const Vector zero{}, one = zero + 1.0;
      Vector share = given.part(p) / (sums.pairs > 0 ? sums.pairs : one);
      share = faulty.part(p) != 0 ? zero : share;
      for (int64_t i = 0; i < modalities; ++i) coefficients[i * modalities + i].part(p) = zero;
      for (int64_t i = 0; i < modalities; ++i) {
        for (int64_t j = i + 1; j < modalities; ++j) {
          const Vector a = norm[i].part(p), b = norm[j].part(p), both = usable[i].part(p) * usable[j].part(p);
          const Vector across = both != 0 ? share / (a * b) : zero;
          const Vector along = both != 0 ? share * cosine(product(i, j).part(p), a, b) : zero;
          coefficients[i * modalities + j].part(p) = across;
          coefficients[j * modalities + i].part(p) = across;
          coefficients[i * modalities + i].part(p) -= along / (a * a);
          coefficients[j * modalities + j].part(p) -= along / (b * b);
        }
      }
    }
  }

 private:
  struct Sums {
    Vector cosines, pairs;
  };

  SPCL_HD void find_norms() {
    for (int64_t m = 0; m < modalities; ++m) {
      for (int p = 0; p < BlockRow::parts; ++p) {
        const Vector one = Vector{} + 1.0;
        norm[m].part(p) = Lanes<double>::sqrt(usable[m].part(p) != 0 ? product(m, m).part(p) : one);
      }
    }
  }

  /// The cosines of the pairs i < j of usable vectors, and how many there are.
  SPCL_HD Sums sum_cosines(int p) const {
    Sums sums{};
    for (int64_t i = 0; i < modalities; ++i) {
      for (int64_t j = i + 1; j < modalities; ++j) {
        const Vector both = usable[i].part(p) * usable[j].part(p), zero{};
        const Vector c = cosine(product(i, j).part(p), norm[i].part(p), norm[j].part(p));
        sums.cosines += both != 0 ? c : zero;
        sums.pairs += both;
      }
    }
    return sums;
  }
};

}  // namespace SPCL_ISA
}  // namespace spcl
