// The kernel, for the instruction set being compiled (see cpu/every_isa.h): one row a lane.

#include "cpu/lanes.h"
//
#include "cpu/row_tile.h"
#include "cpu/sum16.h"
#include "cpu/widen.h"
#include "cpu/window_sums.h"
#include "math/modality_spread.h"
#include "math/self_paced_weights.h"
#include "math/window_coherence.h"
//
#include "cpu/dots16.h"
//
#include "cpu/coherence_block.h"
//
#include "cpu/coherence_memory.h"

namespace spcl {
namespace SPCL_ISA {

/// Modalities whose exponentials a block keeps.
inline constexpr int64_t kMostAtOnce = 8;

template <class Input, int Fixed>
class RescoreRows {
 public:
  using Traits = Lanes<float>;
  using Vector = Traits::Vector;
  using Mask = Traits::Mask;
  static constexpr int lanes = Traits::count;

  RescoreRows(const RescoreBatch& batch, RescoreWork& work, CoherenceBlock* block, int64_t begin, int64_t rows)
      : batch_(batch), work_(work), block_(block), begin_(begin), rows_(rows) {}

  void score() {
    for (int64_t i = 0; i < rows_; i += kBlockRows) {
      const int count = rows_ - i < kBlockRows ? static_cast<int>(rows_ - i) : kBlockRows;
      for (int part = 0; part * lanes < count; ++part) {
        const int here = count - part * lanes < lanes ? count - part * lanes : lanes;
        score_lanes(i + part * lanes, here, part);
      }
      if (block_ != nullptr) block_->coherence(work_.agreement.data() + i, count);
    }
    work_.nonfinite += num_nonfinite_.total();
  }

 private:
  /// Rows [i, i + count) of the group; `part` of a block of kBlockRows.
  SPCL_HD void score_lanes(int64_t i, int count, int part) {
    const int64_t t = begin_ + i, M = batch_.modalities;
    const Mask label = lane_labels<float>(work_.labels.data() + i, count);
    const Vector nan = Vector{} + __builtin_nanf(""), lowest = Vector{} - __builtin_inff();
    Vector joint[Fixed] = {}, confidence[kMostAtOnce];
    Mask finite = Mask{} - 1;  // all lanes
    for (int64_t m = 0; m < M; ++m) {
      Vector* const e = exponentials_[m];
      const FloatRows& z = batch_.logits[m];
      Vector tile[Fixed];
      read_rows<Input, float, Fixed>(z.data + t * z.row_stride, z.row_stride, z.class_stride, count, Fixed, tile);
      Vector maximum = lowest;
#pragma GCC unroll 8
      for (int c = 0; c < Fixed; ++c) {
        maximum = Traits::larger(tile[c], maximum);
        joint[c] = m == 0 ? tile[c] : joint[c] + tile[c];
      }
      Vector sum{}, own = nan, own_shift = nan;
#pragma GCC unroll 8
      for (int c = 0; c < Fixed; ++c) {
        const Vector shift = tile[c] - maximum;
        e[c] = Traits::exp(shift);
        sum = sum + e[c];
        own_shift = label == c ? shift : own_shift;
        own = label == c ? e[c] : own;
      }
      const Vector p = own / sum;
      confidence[m] = p;
      finite &= sum == sum;
      if (batch_.wants_modalities) {
        const int64_t at = m * batch_.utterances + t;
        store_lanes<float>(p, count, batch_.confidence + at);
        store_lanes<float>(Traits::log(own == own ? sum : own) - own_shift, count, batch_.loss + at);
      }
    }
    const Vector loss = joint_loss(label, joint);
    finite &= loss == loss;
    const Mask candidate = label >= 0, scored = candidate & finite;
    store_lanes<float>(scored ? loss : nan, count, batch_.utterance_loss + t);
    for (int64_t m = 0; m < M; ++m) {
      store_lanes<float>(scored ? confidence[m] : nan, count, work_.confidence.data() + m * rows_ + i);
    }
    num_nonfinite_.add(candidate & (~finite | (loss == __builtin_inff())));
    if (block_ != nullptr) compare(part);
  }
  Tally<float> num_nonfinite_;

  SPCL_HD static Vector joint_loss(Mask label, Vector* joint) {
    Vector maximum = Vector{} - __builtin_inff();
#pragma GCC unroll 8
    for (int c = 0; c < Fixed; ++c) maximum = Traits::larger(joint[c], maximum);
    Vector own_shift{}, sum{};
#pragma GCC unroll 8
    for (int c = 0; c < Fixed; ++c) {
      const Vector shift = joint[c] - maximum;
      own_shift = label == c ? shift : own_shift;
      sum = sum + Traits::exp(shift);
    }
    return Traits::log(sum) - own_shift;
  }

  /// The products of the modalities' predictions with each other, for the block's cosines; see
  /// cpu/coherence_predictions.h.
  SPCL_HD void compare(int part) {
    const int64_t M = batch_.modalities;
    BlockRow* product = block_->products;
    for (int64_t i = 0; i < M; ++i) {
      for (int64_t j = i; j < M; ++j, ++product) put(product_of(exponentials_[i], exponentials_[j]), part, *product);
    }
    for (int k = 2 * part; k < 2 * part + 2; ++k) {
      using Doubles = BlockRow::Vector;
      const Doubles zero{}, one = zero + 1.0;
      Doubles faulty{};
      for (int64_t m = 0; m < M; ++m) {
        const Doubles square = block_->product(m, m).part(k);
        block_->usable[m].part(k) = square == square ? one : zero;
        faulty = square == square ? faulty : one;
      }
      block_->faulty.part(k) = faulty;
    }
  }

  SPCL_HD static void put(Vector values, int part, BlockRow& row) {
    const AsDoubles doubles(values);
    row.part(2 * part) = doubles.parts[0];
    row.part(2 * part + 1) = doubles.parts[1];
  }

  SPCL_HD static Vector product_of(const Vector* a, const Vector* b) {
    Vector sum[4] = {};
    constexpr int whole = Fixed / 4 * 4;
#pragma GCC unroll 8
    for (int c = 0; c < whole; ++c) sum[c % 4] = Traits::multiply_add(a[c], b[c], sum[c % 4]);
#pragma GCC unroll 4
    for (int c = whole; c < Fixed; ++c) sum[0] = Traits::multiply_add(a[c], b[c], sum[0]);
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
  }

  const RescoreBatch& batch_;
  RescoreWork& work_;
  CoherenceBlock* const block_;
  const int64_t begin_, rows_;
  Vector exponentials_[kMostAtOnce][Fixed];
};

/// Calls `run` with the type of the logits and the number of classes; false where nothing is compiled for them.
template <class Run>
bool with_rescore_types(const RescoreBatch& batch, const Run& run) {
  if (batch.modalities < 1 || batch.modalities > kMostAtOnce) return false;
  bool is_known = false;
  with_classes(batch.labels.num_classes, [&](auto fixed) {
    constexpr int Fixed = decltype(fixed)::value;
    if constexpr (Fixed > 0) {
      is_known = batch.logits[0].type != FloatType::kFloat64;
      switch (batch.logits[0].type) {
        case FloatType::kFloat16:
          return run.template operator()<Float16, Fixed>();
        case FloatType::kBFloat16:
          return run.template operator()<BFloat16, Fixed>();
        case FloatType::kFloat32:
          return run.template operator()<float, Fixed>();
        case FloatType::kFloat64:
          return;
      }
    }
  });
  return is_known;
}

bool is_rescored_at_once(const RescoreBatch& batch) {
  return with_rescore_types(batch, []<class Input, int Fixed>() {});
}

/// The means over windows of what the rows [begin, end) of whole dialogues agree on.
inline void coherence_of_windows(const RescoreBatch& batch, int64_t first, int64_t last, const double* agreement,
                                 WindowTerm* tails) {
  const int64_t begin = batch.offsets[first];
  const auto term_of = [&](int64_t t) __attribute__((always_inline)) {
    const double value = agreement[t - begin];
    const bool is_defined = value <= 1.0;  // neither NaN nor the Inf of a fault
    return WindowTerm{is_defined ? value : 0.0, is_defined ? 1.0 : 0.0};
  };
  const auto take = [&](int64_t t, WindowTerm sum) __attribute__((always_inline)) {
    const double count = agreement[t - begin] == faulty_coherence() ? 0.0 : sum.count;
    batch.coherence[t] = static_cast<float>(count > 0 ? sum.value / count : undefined_coherence());
  };
  for (int64_t d = first; d < last; ++d) {
    const int64_t from = batch.offsets[d], to = batch.offsets[d + 1];
    window_sums(from, to, from, to, batch.windows->half, tails, term_of, take);
  }
}

void rescore_dialogues(const RescoreBatch& batch, int64_t first, int64_t last, RescoreWork& work) {
  const int64_t begin = batch.offsets[first], end = batch.offsets[last];
  work.bad_label += class_labels(batch.labels, begin, end, work.labels.data());
  const auto run = [&](CoherenceBlock* block) {
    with_rescore_types(batch, [&]<class Input, int Fixed>() {
      RescoreRows<Input, Fixed>(batch, work, block, begin, end - begin).score();
    });
  };
  if (!batch.wants_coherence) return run(nullptr);
  CoherenceMemory memory(*batch.windows, work.windows);
  run(&memory.block);
  coherence_of_windows(batch, first, last, work.agreement.data(), memory.tails);
}

void rate_dialogues(const RescoreBatch& batch, int64_t first, int64_t last, const float* extra, RescoreWork& work) {
  constexpr int lanes = Lanes<float>::count;
  const int64_t begin = batch.offsets[first], rows = batch.offsets[last] - begin, M = batch.modalities;
  double sums[kMostAtOnce];
  int64_t known[kMostAtOnce];
  for (int64_t d = first; d < last; ++d) {
    const int64_t from = batch.offsets[d], to = batch.offsets[d + 1];
    for (int64_t m = 0; m < M; ++m) {
      sums[m] = 0, known[m] = 0;
      for (int64_t t = from; t < to; t += kStepRows) {  // as the step sums a long dialogue
        const int64_t count = to - t < kStepRows ? to - t : kStepRows;
        const SumOfKnown sum = sum_of_known(work.confidence.data() + m * rows + (t - begin), count);
        sums[m] += sum.total;
        known[m] += sum.count;
      }
      work.confidence_sum[static_cast<size_t>(m)] += sums[m];
    }
    const auto spread = static_cast<float>(spread_of_dialogue(sums, known, M, known[0], batch.of_means));
    batch.spread[d] = spread;
    for (int64_t t = from; t < to; ++t) batch.spread_of_row[t] = spread;
  }
  constexpr float nan = __builtin_nanf("");
  for (int64_t i = 0; i < rows; i += lanes) {
    const int count = rows - i < lanes ? static_cast<int>(rows - i) : lanes;
    const int64_t t = begin + i;
    auto rho = measured(batch.measure, load_lanes<float>(batch.spread_of_row + t, count, nan),
                        load_lanes<float>(batch.utterance_loss + t, count, nan));
    if (extra != nullptr) rho += load_lanes<float>(extra + i, count, 0.0F);
    store_lanes<float>(rho, count, batch.difficulty + t);
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
