#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "extended_difficulty";

/// Whether a present vector of utterance t holds NaN or Inf.
bool is_faulty(const RowsInput& input, const PresentInput& present, int64_t t) {
  for (int64_t m = 0; m < input.modalities; ++m) {
    if (present.data != nullptr && !present.data[m * present.modality_stride + t * present.stride]) continue;
    const FloatRows rows = input.modality(m);
    for (int64_t f = 0; f < input.columns; ++f) {
      if (!std::isfinite(load_float(rows.type, rows.data + t * rows.row_stride + f * rows.class_stride))) return true;
    }
  }
  return false;
}

/// The incoherence times its weight, `weight / 2 (1 - coherence)`, rounded once in the dtype of the coherence.
template <class Real, class Sum>
void begin_with_incoherence(const std::vector<Tensor>& vectors, const Tensor& coherence,
                            const std::optional<Tensor>& present, double weight, bool of_predictions, Sum* sum) {
  const auto half = static_cast<Real>(weight / 2);
  const auto* given = static_cast<const Real*>(coherence.const_data_ptr());
  for (int64_t t = 0; t < coherence.size(0); ++t) {
    if (given[t] == given[t]) {
      sum[t] = static_cast<Sum>(std::fma(given[t], -half, half));
      continue;
    }
    // No pair says anything, or the vectors are at fault; logits that are, are NaN in the step already.
    sum[t] = 0;
    if (of_predictions) continue;
    const RowsInput input = checked_rows(kOp, "embeddings", 'F', vectors);
    if (is_faulty(input, checked_present(kOp, present, input.modalities, input.utterances), t)) {
      sum[t] = std::numeric_limits<Sum>::quiet_NaN();
    }
  }
}

template <class Real, class Sum>
void add_surprisal(const Tensor& surprisal, double weight, Sum* sum) {
  const auto* values = static_cast<const Real*>(surprisal.const_data_ptr());
  for (int64_t t = 0; t < surprisal.size(0); ++t) {
    sum[t] = std::fma(static_cast<Sum>(values[t]), static_cast<Sum>(weight), sum[t]);
  }
}

template <class Real, class Sum>
void add_transition(const Tensor& of_dialogues, const std::vector<int64_t>& bounds, double weight, Sum* sum) {
  const auto* values = static_cast<const Real*>(of_dialogues.const_data_ptr());
  for (size_t d = 0; d + 1 < bounds.size(); ++d) {
    for (int64_t t = bounds[d]; t < bounds[d + 1]; ++t) {
      sum[t] = std::fma(static_cast<Sum>(values[d]), static_cast<Sum>(weight), sum[t]);
    }
  }
}

/// Calls use(Real{}) for the dtype of a result.
template <class Use>
void with_real(const Tensor& tensor, const Use& use) {
  if (tensor.scalar_type() == ScalarType::Double) return use(double{});
  use(float{});
}

}  // namespace

Tensor extended_difficulty_cpu(const std::vector<Tensor>& vectors, const Tensor& labels,
                               const std::optional<Tensor>& speakers, const Tensor& offsets,
                               const std::optional<Tensor>& present, const std::optional<Tensor>& similarity,
                               const std::optional<Tensor>& fitted, int64_t num_classes, int64_t window,
                               bool of_predictions, double incoherence, double transition, double surprisal,
                               int64_t ignore_index, bool breaks, bool is_wide) {
  SPCL_CHECK(labels.dim() == 1, kOp, "labels must be [T]", shape_text(labels));
  const int64_t T = labels.size(0);
  Tensor difficulty = new_tensor({T}, is_wide ? ScalarType::Double : ScalarType::Float);
  with_real(difficulty, [&](auto sum_type) {
    typedef decltype(sum_type) Sum;
    auto* sum = static_cast<Sum*>(difficulty.mutable_data_ptr());
    std::fill_n(sum, T, Sum{0});
    if (incoherence > 0) {
      const auto [coherence, _] = window_coherence_cpu(vectors, offsets, present, window, of_predictions, false);
      SPCL_CHECK(coherence.size(0) == T, kOp, "labels must be [T]", shape_text(labels));
      with_real(coherence, [&, &coherence = coherence](auto type) {
        begin_with_incoherence<decltype(type)>(vectors, coherence, present, incoherence, of_predictions, sum);
      });
    }
    if (transition <= 0 && surprisal <= 0) return;
    SPCL_CHECK(speakers.has_value(), kOp, "transitions need speakers", "none");
    const auto found = emotion_transitions_cpu(labels, *speakers, offsets, num_classes, similarity, fitted,
                                               ignore_index, breaks, false, true);
    const Tensor& of_dialogues = std::get<4>(found);
    with_real(of_dialogues, [&](auto type) {
      typedef decltype(type) Real;
      if (transition > 0) add_transition<Real>(of_dialogues, checked_offsets(kOp, offsets, T), transition, sum);
      if (surprisal > 0) add_surprisal<Real>(std::get<5>(found), surprisal, sum);
    });
  });
  return difficulty;
}

}  // namespace spcl
