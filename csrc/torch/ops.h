#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace spcl {

/// How many of difficulty [T] have each value of digit `level` of their keys, below the digits `prefix`: int64.
torch::stable::Tensor difficulty_histogram_cpu(const torch::stable::Tensor& difficulty,
                                               const torch::stable::Tensor& prefix, int64_t level);

/// The ceil(pace n)-th smallest of the n values of difficulty [T] that are not NaN, a 0-dim tensor of its dtype.
torch::stable::Tensor difficulty_quantile_cpu(const torch::stable::Tensor& difficulty, std::optional<double> pace,
                                              const std::optional<torch::stable::Tensor>& pace_tensor);

/// The four scores as a slab [4, M, T]: loss, confidence, entropy, margin.
torch::stable::Tensor modality_scores_cpu(const std::vector<torch::stable::Tensor>& logits,
                                          const torch::stable::Tensor& labels,
                                          const std::optional<torch::stable::Tensor>& present, int64_t ignore_index);

/// The same, into four tensors [M, T] whose rows are contiguous.
void modality_scores_out_cpu(const std::vector<torch::stable::Tensor>& logits, const torch::stable::Tensor& labels,
                             const std::optional<torch::stable::Tensor>& present, int64_t ignore_index,
                             const torch::stable::Tensor& loss, const torch::stable::Tensor& confidence,
                             const torch::stable::Tensor& entropy, const torch::stable::Tensor& margin);

/// The gradient [M, T, C] of the logits, in their dtype, for the gradients [M, T] of the scores, in theirs.
torch::stable::Tensor modality_scores_backward_cpu(
    const std::vector<torch::stable::Tensor>& logits, const torch::stable::Tensor& labels,
    const std::optional<torch::stable::Tensor>& present, int64_t ignore_index,
    const std::optional<torch::stable::Tensor>& grad_loss, const std::optional<torch::stable::Tensor>& grad_confidence,
    const std::optional<torch::stable::Tensor>& grad_entropy, const std::optional<torch::stable::Tensor>& grad_margin);

using StepTensors = std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor,
                               torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor,
                               torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor>;

/// loss, weight, difficulty, utterance_loss, confidence, spread, gradient, counts, sums. The gradient [T, C] is that
/// of the loss in the joint logits, in the dtype of the loss; empty unless it is needed. counts int64[7]: 1, scored,
/// selected, nonfinite, bad_label, bad_offset, undefined. sums float64[2 + 2 M]: loss, confidence, selected confidence,
/// weight.
StepTensors self_paced_step_cpu(const std::vector<torch::stable::Tensor>& logits, const torch::stable::Tensor& labels,
                                const torch::stable::Tensor& offsets,
                                const std::optional<torch::stable::Tensor>& threshold_tensor,
                                std::optional<double> threshold, const std::optional<torch::stable::Tensor>& joint,
                                const std::optional<torch::stable::Tensor>& extra_difficulty,
                                const std::optional<torch::stable::Tensor>& class_weight,
                                const std::optional<torch::stable::Tensor>& present, int64_t measure, int64_t scheme,
                                double scheme_parameter, bool groups_are_dialogues, bool divides_by_weight,
                                bool of_means, double label_smoothing, int64_t ignore_index, bool flags,
                                bool needs_gradient);

using TransitionsTensors = std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor,
                                      torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor>;

/// counts [C, C], same_speaker_shifts, cross_speaker_shifts, num_speakers and difficulty [D], surprisal [T]; the last
/// over `fitted` [C, C] where it is given.
TransitionsTensors emotion_transitions_cpu(const torch::stable::Tensor& labels, const torch::stable::Tensor& speakers,
                                           const torch::stable::Tensor& offsets, int64_t num_classes,
                                           const std::optional<torch::stable::Tensor>& similarity,
                                           const std::optional<torch::stable::Tensor>& fitted, int64_t ignore_index,
                                           bool breaks, bool by_speaker, bool weighs_both);

/// The weighted sum of incoherence, transition and surprisal, [T], float64 where `is_wide` and else float32. A term
/// whose weight is 0 is left out, and with it what it alone needs; each product is added with one rounding.
torch::stable::Tensor extended_difficulty_cpu(
    const std::vector<torch::stable::Tensor>& vectors, const torch::stable::Tensor& labels,
    const std::optional<torch::stable::Tensor>& speakers, const torch::stable::Tensor& offsets,
    const std::optional<torch::stable::Tensor>& present, const std::optional<torch::stable::Tensor>& similarity,
    const std::optional<torch::stable::Tensor>& fitted, int64_t num_classes, int64_t window, bool of_predictions,
    double incoherence, double transition, double surprisal, int64_t ignore_index, bool breaks, bool is_wide);

/// The spread of each dialogue, [D], of confidences [M, T].
torch::stable::Tensor modality_spread_cpu(const torch::stable::Tensor& confidence, const torch::stable::Tensor& offsets,
                                          const std::optional<torch::stable::Tensor>& present, bool of_means);

/// Hardness, direct hardness and information [T] of rows of features of each modality, of none in place of the target
/// where that is zeros, of hidden units and of those of each pair; and the scaling [4], that which is given or their
/// own.
std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor>
multiview_hardness_cpu(const std::vector<torch::stable::Tensor>& reconstruction,
                       const std::vector<torch::stable::Tensor>& target,
                       const std::vector<torch::stable::Tensor>& hidden,
                       const std::vector<torch::stable::Tensor>& crossed, const torch::stable::Tensor& present,
                       const std::optional<torch::stable::Tensor>& valid,
                       const std::optional<torch::stable::Tensor>& scaling, int64_t mi_sign, double slope,
                       double direct_weight, double information_weight);

/// True for the ceil(pace n) smallest of them, of equal ones the first: bool [T].
torch::stable::Tensor select_easiest_cpu(const torch::stable::Tensor& difficulty, std::optional<double> pace,
                                         const std::optional<torch::stable::Tensor>& pace_tensor);

/// True where the lot falls on an utterance, at the odds of a pace and a tilt, 0-dim tensors: bool [T].
torch::stable::Tensor select_by_odds_cpu(const torch::stable::Tensor& difficulty, const torch::stable::Tensor& ids,
                                         const torch::stable::Tensor& epoch, int64_t seed,
                                         const torch::stable::Tensor& pace, const torch::stable::Tensor& tilt);

/// True for as many as lie up to the threshold, a 0-dim tensor, or as `instead_of` [T] takes, where it is given: by
/// lot, or without ids the hardest; with offsets, each dialogue about as many as one of its length. bool [T].
torch::stable::Tensor select_as_many_cpu(const torch::stable::Tensor& difficulty,
                                         const std::optional<torch::stable::Tensor>& ids,
                                         const torch::stable::Tensor& epoch, int64_t seed,
                                         const torch::stable::Tensor& threshold,
                                         const std::optional<torch::stable::Tensor>& instead_of,
                                         const std::optional<torch::stable::Tensor>& offsets);

/// The weight of each difficulty, of its shape, at a threshold given as a tensor or as a number; `groups`, of that
/// shape too, for the scheme that ranks.
torch::stable::Tensor self_paced_weights_cpu(const torch::stable::Tensor& difficulty,
                                             const std::optional<torch::stable::Tensor>& threshold_tensor,
                                             std::optional<double> threshold, int64_t scheme, double parameter,
                                             const std::optional<torch::stable::Tensor>& groups);

/// SuperLoss of each loss, of their shape, at a threshold given as a tensor or as a number: value and confidence.
std::tuple<torch::stable::Tensor, torch::stable::Tensor> super_loss_cpu(
    const torch::stable::Tensor& loss, const std::optional<torch::stable::Tensor>& threshold_tensor,
    std::optional<double> threshold, double regularization);

/// Takes what a step saw of T utterances into the running scores [N + 1, 6] of all; the last row is spare. A row that
/// is none of the N is left out, or with `strict` refused before anything is written.
void update_running_scores_cpu(const torch::stable::Tensor& rows, const torch::stable::Tensor& row,
                               const torch::stable::Tensor& loss, const torch::stable::Tensor& confidence,
                               const torch::stable::Tensor& correct, const std::optional<torch::stable::Tensor>& scored,
                               double decay, bool strict);

/// The coherence [T] of embeddings, or of the softmax of logits, and how many c are defined in each window: int64 [T],
/// 0 where the coherence is NaN; empty unless they are needed.
std::tuple<torch::stable::Tensor, torch::stable::Tensor> window_coherence_cpu(
    const std::vector<torch::stable::Tensor>& embeddings, const torch::stable::Tensor& offsets,
    const std::optional<torch::stable::Tensor>& present, int64_t window, bool of_predictions, bool needs_counts);

/// The same, into a contiguous tensor [T].
void window_coherence_out_cpu(const std::vector<torch::stable::Tensor>& embeddings,
                              const torch::stable::Tensor& offsets, const std::optional<torch::stable::Tensor>& present,
                              int64_t window, bool of_predictions, const torch::stable::Tensor& out);

/// The gradient [M, T, F] in the embeddings, of their dtype, from that in the coherence and from the counts.
torch::stable::Tensor window_coherence_backward_cpu(const torch::stable::Tensor& grad,
                                                    const torch::stable::Tensor& counts,
                                                    const std::vector<torch::stable::Tensor>& embeddings,
                                                    const torch::stable::Tensor& offsets,
                                                    const std::optional<torch::stable::Tensor>& present, int64_t window,
                                                    bool of_predictions);

}  // namespace spcl
