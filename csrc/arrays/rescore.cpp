#include "cpu/rescore.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/emotion_transitions_run.h"
#include "cpu/isa.h"
#include "cpu/modality_scores.h"
#include "cpu/self_paced_step.h"
#include "cpu/step_run.h"
#include "cpu/window_coherence.h"

// Every column of a rescored corpus, for a slice of whole dialogues, by the kernels of the ops. A group of dialogues
// goes through all of them while its logits stay in the cache, and results go to the caller's buffer.

namespace spcl::arrays {
namespace {

constexpr const char* kOp = "rescore";
constexpr auto kInTurn = [](int64_t tasks, const auto& body) { body(0, tasks); };

/// Utterances of a group of dialogues, unless one is longer.
constexpr int64_t kGroupRows = 4096;

/// Logits or embeddings; 16 bit words are bfloat16, a type that NumPy lacks.
RowsInput checked_stored(const char* name, char letter, std::vector<py::array> arrays) {
  const bool are_words = !arrays.empty() && arrays.front().dtype().equal(py::dtype::of<uint16_t>());
  if (are_words) {
    for (py::array& array : arrays) {
      check(kOp, array.dtype().equal(py::dtype::of<uint16_t>()), std::string(name) + " must have one dtype",
            py::str(array.dtype()));
      array = array.attr("view")("float16").cast<py::array>();
    }
  }
  RowsInput input = letter == 'C' ? checked_logits(kOp, arrays) : checked_rows(kOp, name, letter, arrays);
  check(kOp, input.type != FloatType::kFloat64, std::string(name) + " must be float16, bfloat16 or float32", "float64");
  if (are_words) {
    input.type = FloatType::kBFloat16;
    for (FloatRows& rows : input.sources) rows.type = FloatType::kBFloat16;
  }
  return input;
}

std::vector<FloatRows> rows_of(const RowsInput& input, int64_t begin = 0) {
  std::vector<FloatRows> rows;
  for (int64_t m = 0; m < input.modalities; ++m) {
    rows.push_back(input.modality(m));
    rows.back().data += begin * rows.back().row_stride;
  }
  return rows;
}

/// A writable float32 array [rows, columns] without gaps.
float* checked_output(const char* name, py::array& array, int64_t rows, int64_t columns) {
  check(kOp,
        array.dtype().equal(py::dtype::of<float>()) && array.ndim() == 2 && array.shape(0) == rows &&
            array.shape(1) == columns && (array.flags() & py::array::c_style) != 0,
        std::string(name) + " must be a float32 array [" + std::to_string(rows) + ", " + std::to_string(columns) + "]",
        shape_text(array));
  return static_cast<float*>(array.mutable_data());
}

bool is_finite_row(const FloatRows& rows, int64_t columns, int64_t t) {
  for (int64_t f = 0; f < columns; ++f) {
    if (!std::isfinite(load_float(rows.type, rows.data + t * rows.row_stride + f * rows.class_stride))) return false;
  }
  return true;
}

/// Where the columns of the buffer begin: those of each modality, then one each.
struct Columns {
  float *loss, *confidence, *spread, *coherence, *transition, *surprisal, *utterance_loss, *difficulty;

  Columns(float* data, int64_t modalities, int64_t utterances)
      : loss(data),
        confidence(loss + modalities * utterances),
        spread(confidence + modalities * utterances),
        coherence(spread + utterances),
        transition(coherence + utterances),
        surprisal(transition + utterances),
        utterance_loss(surprisal + utterances),
        difficulty(utterance_loss + utterances) {}
};

class Slice {
 public:
  Slice(const RowsInput& logits, const LabelRows& labels, const std::vector<int64_t>& bounds, const Columns& out,
        float* of_dialogues)
      : logits_(logits),
        labels_(labels),
        bounds_(bounds),
        out_(out),
        T_(logits.utterances),
        dialogue_spread_(of_dialogues),
        dialogue_transition_(of_dialogues + (bounds.size() - 1)),
        mean_difficulty_(dialogue_transition_ + (bounds.size() - 1)),
        max_difficulty_(mean_difficulty_ + (bounds.size() - 1)),
        mean_loss_(max_difficulty_ + (bounds.size() - 1)),
        confidence_(static_cast<size_t>(logits.modalities)),
        selected_(confidence_.size()),
        group_confidence_(confidence_.size()) {}

  /// Calls `work(first, last)` for groups of whole dialogues.
  template <class Work>
  void each_group(const Work& work) const {
    const auto dialogues = bounds_.size() - 1;
    for (size_t first = 0; first < dialogues;) {
      size_t last = first + 1;
      while (last < dialogues && bounds_[last + 1] - bounds_[first] <= kGroupRows) ++last;
      work(first, last);
      first = last;
    }
  }

  void spread_over(size_t first, size_t last, const float* of_dialogue, float* rows) const {
    for (size_t d = first; d < last; ++d) std::fill(rows + bounds_[d], rows + bounds_[d + 1], of_dialogue[d]);
  }

  void step(size_t first, size_t last, StepBatch batch, const float* extra) {
    const int64_t begin = bounds_[first], n = bounds_[last] - begin;
    std::vector<FloatRows> rows = rows_of(logits_, begin);
    batch.logits = rows.data();
    batch.labels.data += begin * batch.labels.stride;
    if (extra != nullptr) batch.extra_difficulty = reinterpret_cast<const char*>(extra);
    weight_.resize(static_cast<size_t>(std::max<int64_t>(n, 1)));
    batch.weight = weight_.data();
    batch.difficulty = out_.difficulty + begin;
    batch.utterance_loss = out_.utterance_loss + begin;
    batch.confidence = out_.confidence + begin;  // its rows are those of the whole slice
    batch.spread = dialogue_spread_ + first;
    std::vector<int64_t> offsets;
    for (size_t d = first; d <= last; ++d) offsets.push_back(bounds_[d] - begin);
    StepWork totals{};
    totals.confidence = group_confidence_.data();
    totals.selected_confidence = selected_.data();
    StepRun(batch, offsets, kInTurn).step(totals);
    sums_.nonfinite += totals.sums.nonfinite;
    sums_.bad_label += totals.sums.bad_label;
    for (size_t m = 0; m < confidence_.size(); ++m) confidence_[m] += group_confidence_[m];
  }

  /// Loss and confidence of each modality by itself: what another one has at fault leaves them as they are.
  void score_modalities(size_t first, size_t last) {
    for (int64_t begin = bounds_[first]; begin < bounds_[last]; begin += kModalityScoresChunk) {
      const int64_t n = std::min(kModalityScoresChunk, bounds_[last] - begin);
      std::vector<ModalityScoresRows> rows;
      int64_t m = 0;
      for (const FloatRows& z : rows_of(logits_, begin)) {
        ModalityScoresRows one{};
        one.logits = z;
        one.loss = out_.loss + m * T_ + begin;
        one.confidence = out_.confidence + m * T_ + begin;
        one.entropy = entropy_;
        one.margin = margin_;
        rows.push_back(one);
        ++m;
      }
      LabelRows labels = labels_;
      labels.data += begin * labels.stride;
      spcl::modality_scores(rows.data(), logits_.modalities, labels, 0, n);
    }
  }

  /// What a dialogue comes to: means and the largest of what is a number, NaN where nothing is; how many are scored.
  void sum_up(size_t first, size_t last, int64_t* scored) {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    for (size_t d = first; d < last; ++d) {
      double difficulty = 0, loss = 0;
      float most = -std::numeric_limits<float>::infinity();
      int64_t difficulties = 0, losses = 0;
      for (int64_t t = bounds_[d]; t < bounds_[d + 1]; ++t) {
        const float rho = out_.difficulty[t], l = out_.utterance_loss[t];
        const bool has_difficulty = rho == rho, has_loss = l == l;
        difficulty += has_difficulty ? rho : 0.0F;
        loss += has_loss ? l : 0.0F;
        difficulties += has_difficulty;
        losses += has_loss;
        most = rho > most ? rho : most;  // not by a NaN; one instruction, no branch
      }
      mean_difficulty_[d] = difficulties > 0 ? static_cast<float>(difficulty / static_cast<double>(difficulties)) : nan;
      max_difficulty_[d] = difficulties > 0 ? most : nan;
      mean_loss_[d] = losses > 0 ? static_cast<float>(loss / static_cast<double>(losses)) : nan;
      scored[d] = losses;
      sums_.scored += losses;
      sums_.undefined += losses - difficulties;  // a difficulty has a loss
      sums_.loss += loss;
    }
  }

  /// Adds what was counted at once.
  void take(const RescoreWork& work) {
    sums_.nonfinite += work.nonfinite;
    sums_.bad_label += work.bad_label;
    for (size_t m = 0; m < confidence_.size(); ++m) confidence_[m] += work.confidence_sum[m];
  }

  const StepSums& sums() const { return sums_; }
  const std::vector<double>& confidence() const { return confidence_; }
  float* dialogue_transition() const { return dialogue_transition_; }
  float* dialogue_spread() const { return dialogue_spread_; }

 private:
  const RowsInput& logits_;
  const LabelRows& labels_;
  const std::vector<int64_t>& bounds_;
  const Columns& out_;
  const int64_t T_;
  float *const dialogue_spread_, *const dialogue_transition_;
  float *const mean_difficulty_, *const max_difficulty_, *const mean_loss_;
  StepSums sums_{};
  std::vector<double> confidence_, selected_, group_confidence_;
  std::vector<float> weight_;
  float entropy_[kModalityScoresChunk], margin_[kModalityScoresChunk];
};

}  // namespace

py::tuple rescore(const std::vector<py::array>& logits, const py::array& labels,
                  const std::optional<py::array>& speakers, const py::array& offsets,
                  const std::vector<py::array>& embeddings, const std::optional<py::array>& fitted, int64_t measure,
                  bool of_means, int64_t window, double incoherence, double transition, double surprisal,
                  bool wants_modalities, bool wants_coherence, bool wants_transitions, py::array out,
                  py::array of_dialogues, py::array scored) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const RowsInput z = checked_stored("logits", 'C', logits);
  const Fault missing = measure_fault(measure, z.modalities, false);
  check(kOp, missing.rule.empty(), missing.rule, missing.got);
  check(kOp, z.columns > 0 && z.columns <= TransitionsBatch::max_classes, "logits must have 1 to 32768 classes",
        std::to_string(z.columns));
  const int64_t T = z.utterances, M = z.modalities, C = z.columns;
  const IntegersInput y = checked_integers(kOp, "labels", labels, T);
  const LabelRows label_rows = y.rows(-100, C);
  const std::vector<int64_t> bounds = checked_offsets(kOp, offsets, T);
  const auto D = static_cast<int64_t>(bounds.size()) - 1;
  const Columns columns(checked_output("out", out, 2 * M + 6, T), M, T);
  float* const dialogue_data = checked_output("of_dialogues", of_dialogues, 5, D);
  check(kOp,
        scored.dtype().equal(py::dtype::of<int64_t>()) && scored.ndim() == 1 && scored.shape(0) == D &&
            (scored.flags() & py::array::c_style) != 0,
        "scored must be an int64 array [D]", shape_text(scored));
  auto* const scored_data = static_cast<int64_t*>(scored.mutable_data());

  RowsInput vectors = z;
  if (!embeddings.empty()) {
    vectors = checked_stored("embeddings", 'F', embeddings);
    check(kOp, vectors.utterances == T && vectors.columns > 0, "embeddings must be [T, F]",
          shape_text(embeddings.front()));
  }
  if (wants_coherence) {
    check(kOp, vectors.modalities >= 2 && vectors.modalities <= CoherenceBatch::max_modalities,
          "the coherence between modalities needs at least 2 of them, and at most 256",
          std::to_string(vectors.modalities));
    check(kOp, window >= 1 && window % 2 == 1, "window must be odd and at least 1", std::to_string(window));
  }
  const std::vector<FloatRows> vector_rows = rows_of(vectors);
  CoherenceBatch coherence{};
  coherence.rows = vector_rows.data();
  coherence.modalities = vectors.modalities;
  coherence.columns = vectors.columns;
  coherence.of_predictions = embeddings.empty();
  coherence.offsets = bounds.data();
  coherence.dialogues = D;
  if (wants_coherence) coherence.half = coherence_half(window, bounds);

  TransitionsBatch chain{};
  std::vector<int64_t> over;
  if (wants_transitions) {
    check(kOp, speakers.has_value(), "the transitions need speakers", "none");
    const IntegersInput who = checked_integers(kOp, "speakers", *speakers, T);
    chain.labels = y.data;
    chain.labels_type = y.type;
    chain.labels_stride = y.stride;
    chain.speakers = who.data;
    chain.speakers_type = who.type;
    chain.speakers_stride = who.stride;
    chain.offsets = bounds.data();
    chain.utterances = T;
    chain.dialogues = D;
    chain.num_classes = C;
    chain.ignore_index = -100;
    chain.weighs_both = true;
    if (fitted) over = checked_counts(kOp, "counts", *fitted, C);
  }

  py::array_t<int64_t> counts({wants_transitions ? C : 0, wants_transitions ? C : 0});
  py::array_t<double> confidence_sum(M);
  int64_t* const table = counts.mutable_data();
  StepSums sums{};
  {
    const py::gil_scoped_release release;
    Slice slice(z, label_rows, bounds, columns, dialogue_data);
    std::vector<int64_t> shifts(wants_transitions ? static_cast<size_t>(3 * D) : 0);
    if (wants_transitions) {
      chain.same_speaker_shifts = shifts.data();
      chain.cross_speaker_shifts = shifts.data() + D;
      chain.num_speakers = shifts.data() + 2 * D;
      chain.difficulty = slice.dialogue_transition();
      chain.surprisal = columns.surprisal;
      run_transitions(chain, fitted ? over.data() : nullptr, table, kInTurn);
    }
    std::optional<CoherenceWork> memory;
    if (wants_coherence) memory.emplace(coherence);

    std::vector<FloatRows> unused;
    StepBatch batch = step_batch(z, label_rows, PresentInput{}, unused);
    batch.measure = static_cast<Measure>(measure);
    batch.selects_all = true;
    batch.of_means = of_means;
    batch.extra_type = FloatType::kFloat32;
    batch.extra_stride = sizeof(float);
    const bool has_extra = incoherence > 0 || transition > 0 || surprisal > 0;
    const auto half = static_cast<float>(incoherence / 2);
    const auto of_surprisal = C > 1 ? static_cast<float>(surprisal / std::log(static_cast<double>(C))) : 0.0F;
    const auto of_transition = static_cast<float>(transition);
    std::vector<float> extra;
    const auto set_extra = [&](int64_t begin, int64_t end) {
      extra.assign(static_cast<size_t>(end - begin), 0.0F);
      for (int64_t t = begin; t < end; ++t) {
        float& sum = extra[static_cast<size_t>(t - begin)];
        if (incoherence > 0) {
          const float c = columns.coherence[t];
          if (c == c) {
            sum = half - half * c;
          } else if (!std::ranges::all_of(
                         vector_rows, [&](const FloatRows& rows) { return is_finite_row(rows, vectors.columns, t); })) {
            sum = std::numeric_limits<float>::quiet_NaN();
          }
        }
        if (transition > 0) sum += of_transition * columns.transition[t];
        if (surprisal > 0) sum += of_surprisal * columns.surprisal[t];
      }
    };
    RescoreBatch once{};
    once.logits = batch.logits;
    once.modalities = M;
    once.utterances = T;
    once.labels = label_rows;
    once.offsets = bounds.data();
    once.measure = batch.measure;
    once.of_means = of_means;
    once.wants_modalities = wants_modalities;
    once.wants_coherence = wants_coherence && coherence.of_predictions;
    once.windows = &coherence;
    once.loss = columns.loss;
    once.confidence = columns.confidence;
    once.spread_of_row = columns.spread;
    once.coherence = columns.coherence;
    once.utterance_loss = columns.utterance_loss;
    once.difficulty = columns.difficulty;
    once.spread = slice.dialogue_spread();
    RescoreWork work{};
    work.confidence_sum.resize(static_cast<size_t>(M));
    work.windows = memory ? memory->get() : nullptr;
    const bool at_once = is_rescored_at_once(once);
    slice.each_group([&](size_t first, size_t last) {
      const int64_t begin = bounds[first], end = bounds[last];
      const auto d = static_cast<int64_t>(first), e = static_cast<int64_t>(last);
      if (wants_coherence && !(at_once && once.wants_coherence)) {
        spcl::window_coherence(coherence, begin, end, memory->get(), columns.coherence, nullptr);
      }
      if (at_once) rescore_dialogues(once, d, e, work);
      if (wants_transitions) slice.spread_over(first, last, slice.dialogue_transition(), columns.transition);
      if (has_extra) set_extra(begin, end);
      const float* const more = has_extra ? extra.data() : nullptr;
      if (at_once) {
        rate_dialogues(once, d, e, more, work);
      } else {
        slice.step(first, last, batch, more);
        if (wants_modalities) slice.score_modalities(first, last);
        slice.spread_over(first, last, slice.dialogue_spread(), columns.spread);
      }
      slice.sum_up(first, last, scored_data);
    });
    slice.take(work);
    sums = slice.sums();
    std::ranges::copy(slice.confidence(), confidence_sum.mutable_data());
  }
  return py::make_tuple(sums.scored, sums.nonfinite, sums.bad_label, sums.undefined, sums.loss, confidence_sum, counts);
}

}  // namespace spcl::arrays
