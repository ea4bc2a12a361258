// The two passes over a range of rows, for the instruction set being compiled (see cpu/every_isa.h): one row a lane.
// Comes after the headers that cpu/self_paced_step_kernel.h includes, none of which has an include guard.
//
// A range of rows is scored, the dialogues in it are summed, then its rows are weighed; all that happens while
// the range stays in the cache. Between the two passes over the rows the outputs hold what the second one needs:
// `weight` 1 for a scored row and 0 for the others, `difficulty` the spread of the row's dialogue, `gradient` the
// softmax of each block of rows, class by class.

namespace spcl {
namespace SPCL_ISA {

/// `Fixed` is the number of classes, or 0 for any.
template <class Input, class Real, int Fixed>
struct StepKernel {
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  using Mask = typename Traits::Mask;
  using Index = typename Traits::Index;
  static constexpr int lanes = Traits::count;
  static constexpr int64_t tile_classes = Fixed > 0 ? Fixed : kTileClasses;

  StepKernel(const StepBatch& batch, StepWork& work) : batch(batch), work(work) {}

  const StepBatch& batch;
  StepWork& work;
  const int64_t runtime_classes = batch.labels.num_classes;
  const bool is_weighted = batch.class_weight != nullptr || batch.label_smoothing > 0;
  const WeightRule<Real> weight_of{batch.weighting};
  Sum16* const selected_confidence = static_cast<Sum16*>(work.selected_lanes);
  Real* const weight = static_cast<Real*>(batch.weight);
  Real* const difficulty = static_cast<Real*>(batch.difficulty);
  Real* const utterance_loss = static_cast<Real*>(batch.utterance_loss);
  Real* const spread = static_cast<Real*>(batch.spread);
  Real* const gradient = static_cast<Real*>(batch.gradient);

  static constexpr Real nan = static_cast<Real>(__builtin_nan(""));
  static constexpr Real infinity = static_cast<Real>(__builtin_inf());

  SPCL_HD int64_t num_classes() const { return Fixed > 0 ? Fixed : runtime_classes; }
  SPCL_HD bool one_tile() const { return num_classes() <= tile_classes; }
  SPCL_HD int64_t tile_end(int64_t first) const {
    return num_classes() - first < tile_classes ? num_classes() : first + tile_classes;
  }
  Real* confidence(int64_t m) const { return static_cast<Real*>(batch.confidence) + m * batch.utterances; }
  Real class_weight(int64_t c) const {
    return batch.class_weight == nullptr ? Real{1} : static_cast<Real>(batch.class_weight[c]);
  }

  /// Lanes whose row has modality m.
  SPCL_HD Mask having(int64_t m, int64_t t, int count) const {
    Mask mask = {};
    const char* flags = batch.present + m * batch.present_modality_stride + t * batch.present_stride;
    for (int lane = 0; lane < count; ++lane) mask[lane] = flags[lane * batch.present_stride] != 0 ? -1 : 0;
    return mask;
  }

  void read_joint(int64_t t, int count, Vector* joint) const {
    const FloatRows& rows = batch.joint;
    const char* address = rows.data + t * rows.row_stride;
    const auto read = [&]<class Type>(Type) {
      read_numbers<Type, Real>(address, rows.row_stride, rows.class_stride, count, num_classes(), joint);
    };
    switch (rows.type) {
      case FloatType::kFloat16:
        return read(Float16{});
      case FloatType::kBFloat16:
        return read(BFloat16{});
      case FloatType::kFloat32:
        return read(float{});
      case FloatType::kFloat64:
        return read(double{});
    }
  }

  /// Softmax of modality m at the labels, NaN for a row without one; adds what its logits say to the joint ones.
  template <class Says>
  SPCL_HD Vector score_modality(int64_t m, int64_t t, int count, Mask label, Vector* joint, const Says& says) const {
    const FloatRows& rows = batch.logits[m];
    Vector tile[tile_classes];
    const auto read = [&](int64_t first) SPCL_INLINE {
      const char* address = rows.data + t * rows.row_stride + first * rows.class_stride;
      read_rows<Input, Real, Fixed>(address, rows.row_stride, rows.class_stride, count, tile_end(first) - first, tile);
    };
    Vector maximum = Vector{} - static_cast<Real>(__builtin_inf());
    for (int64_t first = 0; first < num_classes(); first += tile_classes) {
      read(first);
#pragma GCC unroll 8
      for (int64_t c = first; c < tile_end(first); ++c) {
        const Vector z = says(tile[c - first]);
        maximum = Traits::larger(tile[c - first], maximum);
        joint[c] = m == 0 ? z : joint[c] + z;
      }
    }
    TileSum<Vector> sum;
    Vector own{};
    for (int64_t first = 0; first < num_classes(); first += tile_classes) {
      if (!one_tile()) read(first);
#pragma GCC unroll 8
      for (int64_t c = first; c < tile_end(first); ++c) {
        const Vector e = Traits::exp(tile[c - first] - maximum);
        sum.tile = sum.tile + e;
        own = label == static_cast<Index>(c) ? e : own;
      }
      if (one_tile()) return own / sum.tile;
      sum.close_tile();
    }
    return own / sum.total;
  }

  /// Loss of the joint logits at the labels; leaves their softmax in their place.
  SPCL_HD Vector score_joint(Mask label, Vector* joint) const {
    Vector maximum = Vector{} - static_cast<Real>(__builtin_inf());
#pragma GCC unroll 8
    for (int64_t c = 0; c < num_classes(); ++c) maximum = Traits::larger(joint[c], maximum);
    Vector true_shift{};
#pragma GCC unroll 8
    for (int64_t c = 0; c < num_classes(); ++c) {
      joint[c] = joint[c] - maximum;
      true_shift = label == static_cast<Index>(c) ? joint[c] : true_shift;
    }
    SmoothedLoss<Vector> smoothed;
    if (is_weighted) {
      for (int64_t c = 0; c < num_classes(); ++c) {
        smoothed.add(joint[c], class_weight(c), label == static_cast<Index>(c));
        if (c + 1 == num_classes() || (c + 1) % kTileClasses == 0) smoothed.weighted_shifts.close_tile();
      }
    }
    TileSum<Vector> sum;
    for (int64_t first = 0; first < num_classes(); first += tile_classes) {
#pragma GCC unroll 8
      for (int64_t c = first; c < tile_end(first); ++c) {
        joint[c] = Traits::exp(joint[c]);
        sum.tile = sum.tile + joint[c];
      }
      if (one_tile()) {
        sum.total = sum.tile;
      } else {
        sum.close_tile();
      }
    }
    if (gradient != nullptr) {
      const Vector inverse = 1 / sum.total;
#pragma GCC unroll 8
      for (int64_t c = 0; c < num_classes(); ++c) joint[c] = joint[c] * inverse;
    }
    const Vector log_sum = Traits::log(sum.total);
    const Vector plain = log_sum - true_shift;
    if (!is_weighted) return plain;
    return smoothed.finish(plain, log_sum, static_cast<Real>(batch.class_weight_sum),
                           static_cast<Real>(batch.label_smoothing), static_cast<Real>(num_classes()));
  }

  /// First pass over a block of rows: confidences, loss, softmax of the joint logits.
  SPCL_HD void score_block(int64_t t, int count, const int32_t* labels) {
    const Mask label = lane_labels<Real>(labels, count);
    Mask candidate = label >= 0;
    if (!any_lane<Real>(candidate)) return skip_block(t, count);

    Vector in_registers[tile_classes];
    Vector* const joint = Fixed > 0 ? in_registers : static_cast<Vector*>(work.classes);
    Mask finite = candidate == candidate;
    if (batch.present == nullptr) {
      for (int64_t m = 0; m < batch.modalities; ++m) {
        const Vector p = score_modality(m, t, count, label, joint, [](Vector z) SPCL_INLINE { return z; });
        finite &= p == p;
        store_lanes<Real>(p, count, confidence(m) + t);
      }
    } else {
      Mask has_any = {};
      for (int64_t m = 0; m < batch.modalities; ++m) {
        const Mask has = having(m, t, count);
        // A missing modality says nothing.
        const auto if_present = [&](Vector z) SPCL_INLINE { return has ? z : Vector{}; };
        const Vector p = score_modality(m, t, count, label, joint, if_present);
        finite &= (p == p) | ~has;
        has_any |= has;
        store_lanes<Real>(has ? p : Vector{} + nan, count, confidence(m) + t);
      }
      candidate &= has_any;
    }
    if (batch.joint.data != nullptr) {
      Vector* const given = static_cast<Vector*>(work.classes);
      read_joint(t, count, given);
#pragma GCC unroll 8
      for (int64_t c = 0; c < num_classes(); ++c) joint[c] = given[c];
    }
    const Vector loss = score_joint(label, joint);
    finite &= loss == loss;  // NaN: no softmax, or a class of weight 0 whose loss is +Inf
    const Mask scored = candidate & finite;

    // The masks are put together where they are needed alone: the compiler takes such apart lane by lane.
    if (any_lane<Real>(~scored) || any_lane<Real>(loss == infinity)) {
      num_nonfinite.add(candidate & (~finite | (loss == infinity)));
      for (int64_t m = 0; m < batch.modalities; ++m) {
        const Vector p = load_lanes<Real>(confidence(m) + t, count, nan);
        store_lanes<Real>(scored ? p : Vector{} + nan, count, confidence(m) + t);
      }
    }
    store_lanes<Real>(scored ? loss : Vector{} + nan, count, utterance_loss + t);
    store_lanes<Real>(scored ? Vector{} + 1 : Vector{}, count, weight + t);
    num_scored.add(scored);
    if (gradient != nullptr) {
#pragma GCC unroll 8
      for (int64_t c = 0; c < num_classes(); ++c) store_lanes<Real>(joint[c], count, block_of(t) + c * count);
    }
  }
  Tally<Real> num_scored, num_nonfinite;

  /// Between the passes, the gradient of a block's rows holds their softmax as [classes][rows].
  Real* block_of(int64_t t) const { return gradient + t * num_classes(); }

  void skip_block(int64_t t, int count) {
    for (int64_t m = 0; m < batch.modalities; ++m) store_lanes<Real>(Vector{} + nan, count, confidence(m) + t);
    store_lanes<Real>(Vector{} + nan, count, utterance_loss + t);
    store_lanes<Real>(Vector{}, count, weight + t);
  }

  void score(int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t += lanes) {
      score_block(t, end - t < lanes ? static_cast<int>(end - t) : lanes, work.labels + (t - begin));
    }
    work.sums.scored += num_scored.total();
    work.sums.nonfinite += num_nonfinite.total();
  }

  /// Sums of the confidences of a dialogue, or of one part of a long one. Returns how many of its rows are scored.
  int64_t sum_dialogue(int64_t begin, int64_t end) {
    for (int64_t m = 0; m < batch.modalities; ++m) {
      const SumOfKnown sum = sum_of_known(confidence(m) + begin, end - begin);
      work.dialogue_sums[m] = sum.total;
      work.known[m] = sum.count;
      work.confidence[m] += sum.total;
    }
    if (batch.present == nullptr) return batch.modalities == 0 ? 0 : work.known[0];
    int64_t scored = 0;
    for (int64_t t = begin; t < end; ++t) scored += weight[t] != 0;
    return scored;
  }

  void spread_dialogue(int64_t dialogue, double* sums, const int64_t* known, int64_t scored) const {
    spread[dialogue] = static_cast<Real>(spread_of_dialogue(sums, known, batch.modalities, scored, batch.of_means));
  }

  SPCL_HD Vector difficulty_of(int64_t t, int count, Vector loss) const {
    Vector rho = measured(batch.measure, load_lanes<Real>(difficulty + t, count, nan), loss);
    if (batch.extra_difficulty != nullptr) {
      for (int lane = 0; lane < count; ++lane) {
        const char* address = batch.extra_difficulty + (t + lane) * batch.extra_stride;
        rho[lane] += static_cast<Real>(load_float(batch.extra_type, address));
      }
    }
    return rho;
  }

  /// Second pass over a block of rows: difficulty, weight, totals, gradient.
  SPCL_HD void weigh_block(int64_t t, int count, int64_t first, const int32_t* labels) {
    const Vector loss = load_lanes<Real>(utterance_loss + t, count, nan);
    const Vector is_scored = load_lanes<Real>(weight + t, count, Real{});
    const Vector rho = difficulty_of(t, count, loss);
    const Vector v = batch.selects_all ? is_scored : weight_of.mostly_hard(rho);
    store_lanes<Real>(rho, count, difficulty + t);
    store_lanes<Real>(v, count, weight + t);
    count_block(t, count, first, labels, loss, is_scored > 0, rho, v);
  }

  /// What a block of rows adds to the totals, and its gradient.
  SPCL_HD void count_block(int64_t t, int count, int64_t first, const int32_t* labels, Vector loss, Mask is_scored,
                           Vector rho, Vector v) {
    const Mask selected = v > 0;
    num_selected.add(selected);
    num_undefined.add(is_scored & (rho != rho));
    loss_sum.add(first, is_scored ? loss : Vector{});
    weighted_loss.add(first, selected ? v * loss : Vector{});
    weight_sum.add(first, v);
    for (int64_t m = 0; m < batch.modalities; ++m) {
      const Vector p = load_lanes<Real>(confidence(m) + t, count, nan);
      selected_confidence[m].add(first, p == p ? p * v : Vector{});
    }
    if (gradient != nullptr) write_gradient(t, count, labels, selected, v * static_cast<Real>(batch.gradient_scale));
  }
  Tally<Real> num_selected, num_undefined;
  Sum16 loss_sum, weighted_loss, weight_sum;

  SPCL_HD void write_gradient(int64_t t, int count, const int32_t* labels, Mask selected, Vector scale) const {
    const Mask label = lane_labels<Real>(labels, count);
    Real* block = block_of(t);
    const Real smoothing = static_cast<Real>(batch.label_smoothing);
    const Real smooth = smoothing / static_cast<Real>(num_classes());
    Vector own = Vector{} + 1;
    Vector all = own;
    if (is_weighted) {
      for (int lane = 0; lane < count; ++lane) {
        own[lane] = labels[lane] < 0 ? Real{} : class_weight(labels[lane]) * (1 - smoothing);
      }
      all = own + smooth * static_cast<Real>(batch.class_weight_sum);
    }
    const Vector own_scale = own * scale, all_scale = all * scale;
    Vector in_registers[tile_classes];
    Vector* const of_class = Fixed > 0 ? in_registers : static_cast<Vector*>(work.classes);
#pragma GCC unroll 8
    for (int64_t c = 0; c < num_classes(); ++c) {
      const Vector softmax = load_lanes<Real>(block + c * count, count, Real{});
      Vector g = selected ? softmax * all_scale : Vector{};  // NaN where there was nothing to score
      g = label == static_cast<Index>(c) ? g - own_scale : g;
      if (smoothing > 0) g = g - scale * (smooth * class_weight(c));
      of_class[c] = g;
    }
    write_rows<Real>(of_class, count, num_classes(), block);
  }

  void weigh_rows(int64_t begin, int64_t end) {
    if (batch.is_ranked()) return rate_rows(begin, end);
    count_rows(begin, end, [this](auto... block) { weigh_block(block...); });
  }

  /// The difficulties alone, for weights that are ranked.
  void rate_rows(int64_t begin, int64_t end) const {
    for (int64_t t = begin; t < end; t += lanes) {
      const int count = end - t < lanes ? static_cast<int>(end - t) : lanes;
      const Vector rho = difficulty_of(t, count, load_lanes<Real>(utterance_loss + t, count, nan));
      store_lanes<Real>(rho, count, difficulty + t);
    }
  }

  /// What is left once the weights are there; a row is scored where its loss is a number.
  void count_ranked(int64_t begin, int64_t end) {
    count_rows(begin, end, [this](int64_t t, int count, int64_t first, const int32_t* labels) {
      const Vector loss = load_lanes<Real>(utterance_loss + t, count, nan);
      const Vector rho = load_lanes<Real>(difficulty + t, count, nan);
      const Vector v = load_lanes<Real>(weight + t, count, Real{});
      count_block(t, count, first, labels, loss, loss == loss, rho, v);
    });
  }

  /// Calls `take` for every block of rows, then adds up what the blocks came to.
  template <class Take>
  void count_rows(int64_t begin, int64_t end, const Take& take) {
    for (int64_t m = 0; m < batch.modalities; ++m) selected_confidence[m] = Sum16{};
    for (int64_t t = begin; t < end; t += lanes) {
      take(t, end - t < lanes ? static_cast<int>(end - t) : lanes, t - begin, work.labels + (t - begin));
    }
    work.sums.selected += num_selected.total();
    work.sums.undefined += num_undefined.total();
    work.sums.loss += loss_sum.total();
    work.sums.weighted_loss += weighted_loss.total();
    work.sums.weight += weight_sum.total();
    for (int64_t m = 0; m < batch.modalities; ++m) work.selected_confidence[m] += selected_confidence[m].total();
  }

  void spread_over_rows(int64_t dialogue, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) difficulty[t] = spread[dialogue];
  }

  void dialogues(const int64_t* offsets, int64_t first, int64_t last) {
    const int64_t begin = offsets[first], end = offsets[last];
    score(begin, end);
    for (int64_t d = first; d < last; ++d) {
      const int64_t scored = sum_dialogue(offsets[d], offsets[d + 1]);
      spread_dialogue(d, work.dialogue_sums, work.known, scored);
      spread_over_rows(d, offsets[d], offsets[d + 1]);
    }
    weigh_rows(begin, end);
  }
};

}  // namespace SPCL_ISA
}  // namespace spcl
