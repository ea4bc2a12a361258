#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <optional>
#include <vector>

// The ops on arrays; what each computes is said in spcl_fast/arrays.

namespace spcl::arrays {

/// CRC-32C of an array of bytes.
uint32_t crc32c(const pybind11::array& bytes, uint32_t before);

/// How many of difficulty [T] have each value of digit `level` of their keys, below the digits `prefix`: int64.
pybind11::array difficulty_histogram(const pybind11::array& difficulty, int64_t prefix, int64_t level);

/// The ceil(pace n)-th smallest of the n values of difficulty [T] that are not NaN: an array [] of its dtype.
pybind11::array difficulty_quantile(const pybind11::array& difficulty, double pace);

/// True for the ceil(pace n) smallest of them, of equal ones the first: bool [T].
pybind11::array select_easiest(const pybind11::array& difficulty, double pace);

/// The four scores as an array [4, M, T]: loss, confidence, entropy, margin.
pybind11::array modality_scores(const std::vector<pybind11::array>& logits, const pybind11::array& labels,
                                const std::optional<pybind11::array>& present, int64_t ignore_index);

/// counts [C, C], same_speaker_shifts, cross_speaker_shifts, num_speakers and difficulty [D], surprisal [T]; the last
/// over `fitted` [C, C] where it is given.
pybind11::tuple emotion_transitions(const pybind11::array& labels, const pybind11::array& speakers,
                                    const pybind11::array& offsets, int64_t num_classes,
                                    const std::optional<pybind11::array>& similarity,
                                    const std::optional<pybind11::array>& fitted, int64_t ignore_index, bool breaks,
                                    bool by_speaker, bool weighs_both);
/// The spread of each dialogue, [D].
pybind11::array modality_spread(const pybind11::array& confidence, const pybind11::array& offsets,
                                const std::optional<pybind11::array>& present, bool of_means);

/// Hardness, direct hardness and information [T], and their scaling [4]; an empty target is zeros.
pybind11::tuple multiview_hardness(const std::vector<pybind11::array>& reconstruction,
                                   const std::vector<pybind11::array>& target,
                                   const std::vector<pybind11::array>& hidden,
                                   const std::vector<pybind11::array>& crossed, const pybind11::array& present,
                                   const std::optional<pybind11::array>& valid,
                                   const std::optional<pybind11::array>& scaling, int64_t mi_sign, double slope,
                                   double direct_weight, double information_weight);

/// The weight of each difficulty, of its shape; `groups`, of that shape too, for the scheme that ranks.
pybind11::array self_paced_weights(const pybind11::array& difficulty, double threshold, int64_t scheme,
                                   double parameter, const std::optional<pybind11::array>& groups);

/// loss as a number, weight, difficulty, utterance_loss, confidence, spread, and (scored, selected, nonfinite,
/// bad_label, undefined, loss_sum, confidence_sum, selected_confidence_sum).
pybind11::tuple self_paced_step(const std::vector<pybind11::array>& logits, const pybind11::array& labels,
                                const pybind11::array& offsets, std::optional<double> threshold,
                                const std::optional<pybind11::array>& joint,
                                const std::optional<pybind11::array>& extra_difficulty,
                                const std::optional<pybind11::array>& class_weight,
                                const std::optional<pybind11::array>& present, int64_t measure, int64_t scheme,
                                double scheme_parameter, bool groups_are_dialogues, bool divides_by_weight,
                                bool of_means, double label_smoothing, int64_t ignore_index);
/// SuperLoss of each loss, of their shape: value and confidence.
pybind11::tuple super_loss(const pybind11::array& loss, double threshold, double regularization);

/// The coherence [T] of embeddings, or of the softmax of logits.
pybind11::array window_coherence(const std::vector<pybind11::array>& embeddings, const pybind11::array& offsets,
                                 const std::optional<pybind11::array>& present, int64_t window, bool of_predictions);

/// What a corpus is rescored to, of one slice of whole dialogues, written into `out` float32 [2 M + 6, T] (loss and
/// confidence of each modality, spread, coherence, transition, surprisal, utterance loss, difficulty; what is not
/// wanted is left as it is), `of_dialogues` float32 [5, D] (spread, transition, mean and largest difficulty, mean
/// utterance loss) and `scored` int64 [D]. Logits and embeddings are M arrays each, uint16 being bfloat16. Returns
/// scored, nonfinite, bad_label, undefined, loss_sum, confidence_sum [M] and the counts of transitions [C, C].
pybind11::tuple rescore(const std::vector<pybind11::array>& logits, const pybind11::array& labels,
                        const std::optional<pybind11::array>& speakers, const pybind11::array& offsets,
                        const std::vector<pybind11::array>& embeddings, const std::optional<pybind11::array>& fitted,
                        int64_t measure, bool of_means, int64_t window, double incoherence, double transition,
                        double surprisal, bool wants_modalities, bool wants_coherence, bool wants_transitions,
                        pybind11::array out, pybind11::array of_dialogues, pybind11::array scored);

}  // namespace spcl::arrays
