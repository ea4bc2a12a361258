// The ops of the namespace `spcl_fast`, a line each; every library of kernels registers itself for them.

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(spcl_fast, m) {
  m.def("instruction_set() -> str");
  m.def("difficulty_histogram(Tensor difficulty, Tensor prefix, int level) -> Tensor");
  m.def("difficulty_quantile(Tensor difficulty, float? pace, Tensor? pace_tensor=None) -> Tensor");
  m.def("modality_scores(Tensor[] logits, Tensor labels, Tensor? present, int ignore_index) -> Tensor");
  m.def(
      "modality_scores_out(Tensor[] logits, Tensor labels, Tensor? present, int ignore_index, "
      "Tensor(a!) loss, Tensor(b!) confidence, Tensor(c!) entropy, Tensor(d!) margin) -> ()");
  m.def(
      "emotion_transitions(Tensor labels, Tensor speakers, Tensor offsets, int num_classes, Tensor? similarity, "
      "Tensor? fitted, int ignore_index, bool breaks, bool by_speaker, bool weighs_both) -> (Tensor counts, "
      "Tensor same_speaker_shifts, Tensor cross_speaker_shifts, Tensor num_speakers, Tensor difficulty, "
      "Tensor surprisal)");
  m.def(
      "extended_difficulty(Tensor[] vectors, Tensor labels, Tensor? speakers, Tensor offsets, Tensor? present, "
      "Tensor? similarity, Tensor? fitted, int num_classes, int window, bool of_predictions, float incoherence, "
      "float transition, float surprisal, int ignore_index, bool breaks, bool is_wide) -> Tensor");
  m.def(
      "modality_scores_backward(Tensor[] logits, Tensor labels, Tensor? present, int ignore_index, "
      "Tensor? grad_loss, Tensor? grad_confidence, Tensor? grad_entropy, Tensor? grad_margin) -> Tensor");
  m.def("modality_spread(Tensor confidence, Tensor offsets, Tensor? present, bool of_means) -> Tensor");
  m.def(
      "multiview_hardness(Tensor[] reconstruction, Tensor[] target, Tensor[] hidden, Tensor[] crossed, Tensor present, "
      "Tensor? valid, Tensor? scaling, int mi_sign, float slope, float direct_weight, float information_weight) -> "
      "(Tensor hardness, Tensor direct, Tensor information, Tensor scaling)");
  m.def("select_easiest(Tensor difficulty, float? pace, Tensor? pace_tensor=None) -> Tensor");
  m.def("select_by_odds(Tensor difficulty, Tensor ids, Tensor epoch, int seed, Tensor pace, Tensor tilt) -> Tensor");
  m.def(
      "select_as_many(Tensor difficulty, Tensor? ids, Tensor epoch, int seed, Tensor threshold, Tensor? instead_of, "
      "Tensor? offsets) -> Tensor");
  m.def(
      "self_paced_weights(Tensor difficulty, Tensor? threshold_tensor, float? threshold, int scheme, float parameter, "
      "Tensor? groups) -> Tensor");
  m.def(
      "self_paced_step(Tensor[] logits, Tensor labels, Tensor offsets, Tensor? threshold_tensor, float? threshold, "
      "Tensor? joint, Tensor? extra_difficulty, Tensor? class_weight, Tensor? present, int measure, "
      "int scheme, float scheme_parameter, bool groups_are_dialogues, bool divides_by_weight, bool of_means, "
      "float label_smoothing, int ignore_index, bool flags, bool needs_gradient) -> "
      "(Tensor loss, Tensor weight, Tensor difficulty, Tensor utterance_loss, Tensor confidence, Tensor spread, "
      "Tensor gradient, Tensor counts, Tensor sums)");
  m.def(
      "self_paced_step_backward(Tensor gradient, Tensor grad_loss, Tensor counts, Tensor sums, "
      "bool divides_by_weight, ScalarType dtype) -> Tensor");
  m.def(
      "super_loss(Tensor loss, Tensor? threshold_tensor, float? threshold, float regularization) -> "
      "(Tensor value, Tensor weight)");
  m.def(
      "update_running_scores(Tensor(a!) rows, Tensor row, Tensor loss, Tensor confidence, Tensor correct, "
      "Tensor? scored, float decay, bool strict=False) -> ()");
  m.def(
      "window_coherence(Tensor[] embeddings, Tensor offsets, Tensor? present, int window, bool of_predictions, "
      "bool needs_counts) -> (Tensor coherence, Tensor counts)");
  m.def(
      "window_coherence_out(Tensor[] embeddings, Tensor offsets, Tensor? present, int window, bool of_predictions, "
      "Tensor(a!) out) -> ()");
  m.def(
      "window_coherence_backward(Tensor grad, Tensor counts, Tensor[] embeddings, Tensor offsets, Tensor? present, "
      "int window, bool of_predictions) -> Tensor");
}
