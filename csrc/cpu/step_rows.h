// The two passes over a range of rows, for the instruction set being compiled (see cpu/every_isa.h): one row a lane.
// Comes after the headers that cpu/self_paced_step_kernel.h includes, none of which has an include guard.
//
// A range of rows is scored, the dialogues in it are summed, then its rows are weighed; all that happens while
// the range stays in the cache. Between the two passes over the rows the outputs hold what the second one needs:
// `weight` 1 for a scored row and 0 for the others, `difficulty` the spread of the row's dialogue, `gradient` the
// softmax of each block of rows, class by class.

namespace spcl {
namespace SPCL_ISA {

template <class Input, class Real>
struct StepKernel {
  using Traits = Lanes<Real>;
  using Vector = typename Traits::Vector;
  using Mask = typename Traits::Mask;
  using Index = typename Traits::Index;
  using Row = Real[Traits::count];
  static constexpr int lanes = Traits::count;

  StepKernel(const StepBatch& batch, StepWork& work) : batch(batch), work(work), row_tiles(batch.num_classes) {}

  const StepBatch& batch;
  StepWork& work;
  const RowTiles<Input, Real> row_tiles;
  const int64_t num_classes = batch.num_classes;
  const bool is_weighted = batch.class_weight != nullptr || batch.label_smoothing > 0;
  const WeightRule<Real> weight_of{batch.weighting};
  Row* const classes = static_cast<Row*>(work.classes);
  Sum16* const selected_confidence = static_cast<Sum16*>(work.selected_lanes);
  Real* const weight = static_cast<Real*>(batch.weight);
  Real* const difficulty = static_cast<Real*>(batch.difficulty);
  Real* const utterance_loss = static_cast<Real*>(batch.utterance_loss);
  Real* const spread = static_cast<Real*>(batch.spread);
  Real* const gradient = static_cast<Real*>(batch.gradient);

  static constexpr Real nan = static_cast<Real>(__builtin_nan(""));

  Real* confidence(int64_t m) const { return static_cast<Real*>(batch.confidence) + m * batch.utterances; }
  SPCL_HD Vector& at(int64_t c) const { return *reinterpret_cast<Vector*>(classes[c]); }
  Real class_weight(int64_t c) const {
    return batch.class_weight == nullptr ? Real{1} : static_cast<Real>(batch.class_weight[c]);
  }
  static int64_t tile_end(int64_t first, int64_t num_classes) {
    return num_classes - first < kTileClasses ? num_classes - first : kTileClasses;
  }
  static Mask lane_labels(const int32_t* labels, int count) {
    Mask mask = Mask{} - 1;
    if constexpr (sizeof(Index) == sizeof(int32_t)) {
      if (count == lanes) {
        std::memcpy(&mask, labels, sizeof mask);
        return mask;
      }
    }
    for (int lane = 0; lane < count; ++lane) mask[lane] = labels[lane];
    return mask;
  }

  /// Lanes whose row has modality m.
  Mask having(int64_t m, int64_t t, int count) const {
    const char* flags = batch.present + m * batch.present_modality_stride + t * batch.present_stride;
    Mask mask = {};
    for (int lane = 0; lane < count; ++lane) mask[lane] = flags[lane * batch.present_stride] != 0 ? -1 : 0;
    return mask;
  }

  void read(const FloatRows& rows, int64_t t, int count, int64_t first, int64_t size, Row* tile) const {
    const char* address = rows.data + t * rows.row_stride + first * rows.class_stride;
    row_tiles.read(address, rows.row_stride, rows.class_stride, count, size, tile);
  }

  void read_joint(int64_t t, int count) const {
    const FloatRows& rows = batch.joint;
    const char* address = rows.data + t * rows.row_stride;
    switch (rows.type) {
      case FloatType::kFloat16:
        return read_tile<Float16, Real>(address, rows.row_stride, rows.class_stride, count, num_classes, classes);
      case FloatType::kBFloat16:
        return read_tile<BFloat16, Real>(address, rows.row_stride, rows.class_stride, count, num_classes, classes);
      case FloatType::kFloat32:
        return read_tile<float, Real>(address, rows.row_stride, rows.class_stride, count, num_classes, classes);
      case FloatType::kFloat64:
        return read_tile<double, Real>(address, rows.row_stride, rows.class_stride, count, num_classes, classes);
    }
  }

  /// Adds the logits of class c of modality m to the joint ones; a missing modality says nothing.
  SPCL_HD void add_to_joint(int64_t m, int64_t c, Vector z, Mask has) {
    if (batch.present != nullptr) z = has ? z : Vector{};
    if (batch.joint.data == nullptr) at(c) = m == 0 ? z : at(c) + z;
  }

  /// Leaves z - max z of modality m behind the joint logits in `classes`, for rows that fit one tile.
  void shift_modality(int64_t m, int64_t t, int count, Mask has) {
    const int64_t first = (m + 1) * num_classes;
    read(batch.logits[m], t, count, 0, num_classes, classes + first);
    Vector maximum = Vector{} - static_cast<Real>(__builtin_inf());
    for (int64_t c = 0; c < num_classes; ++c) maximum = Traits::larger(at(first + c), maximum);
    for (int64_t c = 0; c < num_classes; ++c) {
      const Vector z = at(first + c);
      at(first + c) = z - maximum;
      add_to_joint(m, c, z, has);
    }
  }

  /// Softmax of modality m at the labels, once `classes` holds the exponentials; NaN for a row without one.
  Vector finish_modality(int64_t m, Mask label) const {
    Vector sum{}, exponential{};
    for (int64_t c = 0; c < num_classes; ++c) {
      const Vector e = at((m + 1) * num_classes + c);
      sum = sum + e;
      exponential = label == static_cast<Index>(c) ? e : exponential;
    }
    return exponential / sum;
  }

  /// The same in one go for rows of more classes than a tile has, which are read twice.
  Vector score_modality(int64_t m, int64_t t, int count, Mask label, Mask has) {
    Tile<Real> tile;
    Vector maximum = Vector{} - static_cast<Real>(__builtin_inf());
    for (int64_t first = 0; first < num_classes; first += kTileClasses) {
      const int64_t size = tile_end(first, num_classes);
      read(batch.logits[m], t, count, first, size, tile.values);
      for (int64_t c = 0; c < size; ++c) {
        maximum = Traits::larger(tile.at(c), maximum);
        add_to_joint(m, first + c, tile.at(c), has);
      }
    }
    TileSum<Vector> sum;
    Vector exponential{};
    for (int64_t first = 0; first < num_classes; first += kTileClasses) {
      const int64_t size = tile_end(first, num_classes);
      read(batch.logits[m], t, count, first, size, tile.values);
      for (int64_t c = 0; c < size; ++c) {
        const Vector e = Traits::exp(tile.at(c) - maximum);
        sum.tile = sum.tile + e;
        exponential = label == static_cast<Index>(first + c) ? e : exponential;
      }
      sum.close_tile();
    }
    return exponential / sum.total;
  }

  /// Leaves J - max J in `classes`, and in `true_shift` that of the label's class.
  void shift_joint(Mask label) {
    Vector maximum = Vector{} - static_cast<Real>(__builtin_inf());
    for (int64_t c = 0; c < num_classes; ++c) maximum = Traits::larger(at(c), maximum);
    true_shift = Vector{};
    smoothed = {};
    for (int64_t c = 0; c < num_classes; ++c) {
      const Vector shift = at(c) - maximum;
      const Mask is_true = label == static_cast<Index>(c);
      at(c) = shift;
      true_shift = is_true ? shift : true_shift;
      if (!is_weighted) continue;
      smoothed.add(shift, class_weight(c), is_true);
      if ((c + 1) % kTileClasses == 0 || c + 1 == num_classes) smoothed.weighted_shifts.close_tile();
    }
  }
  Vector true_shift;
  SmoothedLoss<Vector> smoothed;

  /// Loss of the joint logits at the labels, once `classes` holds the exponentials; leaves the softmax there.
  Vector finish_joint() {
    TileSum<Vector> sum;
    for (int64_t first = 0; first < num_classes; first += kTileClasses) {
      const int64_t end = first + tile_end(first, num_classes);
      for (int64_t c = first; c < end; ++c) sum.tile = sum.tile + at(c);
      sum.close_tile();
    }
    if (gradient != nullptr) {
      const Vector inverse = 1 / sum.total;
      for (int64_t c = 0; c < num_classes; ++c) at(c) = at(c) * inverse;
    }
    const Vector log_sum = Traits::log(sum.total);
    const Vector plain = log_sum - true_shift;
    if (!is_weighted) return plain;
    return smoothed.finish(plain, log_sum, static_cast<Real>(batch.class_weight_sum),
                           static_cast<Real>(batch.label_smoothing), static_cast<Real>(num_classes));
  }

  /// First pass over a block of rows: confidences, loss, softmax of the joint logits.
  ///
  /// Where rows fit one tile, the exponentials of all modalities and of the joint logits are taken in one loop: one
  /// alone is a long chain of instructions that wait for each other, many at a time fill the processor.
  void score_block(int64_t t, int count, const int32_t* labels) {
    const Mask label = lane_labels(labels, count);
    Mask candidate = label >= 0;
    bool any = labels[0] >= 0;
    for (int lane = 1; lane < count && !any; ++lane) any = labels[lane] >= 0;
    if (!any) return skip_block(t, count);

    const Mask all = label == label;
    const bool one_tile = num_classes <= kTileClasses;
    for (int64_t m = 0; m < batch.modalities; ++m) {
      const Mask has = batch.present == nullptr ? all : having(m, t, count);
      if (one_tile) {
        shift_modality(m, t, count, has);
      } else {
        store_lanes<Real>(score_modality(m, t, count, label, has), count, confidence(m) + t);
      }
    }
    if (batch.joint.data != nullptr) read_joint(t, count);
    shift_joint(label);
    const int64_t exponentials = one_tile ? (batch.modalities + 1) * num_classes : num_classes;
    for (int64_t c = 0; c < exponentials; ++c) at(c) = Traits::exp(at(c));
    const Vector loss = finish_joint();

    Mask finite = loss == loss;  // NaN: no softmax, or a class of weight 0 whose loss is +Inf
    Mask has_any = {};
    for (int64_t m = 0; m < batch.modalities; ++m) {
      const Mask has = batch.present == nullptr ? all : having(m, t, count);
      const Vector p = one_tile ? finish_modality(m, label) : load_lanes<Real>(confidence(m) + t, count, nan);
      finite &= (p == p) | ~has;
      has_any |= has;
      store_lanes<Real>(has ? p : Vector{} + nan, count, confidence(m) + t);
    }
    candidate &= has_any;
    const Mask scored = candidate & finite;

    for (int64_t m = 0; m < batch.modalities; ++m) {
      const Vector p = load_lanes<Real>(confidence(m) + t, count, nan);
      store_lanes<Real>(scored ? p : Vector{} + nan, count, confidence(m) + t);
    }
    store_lanes<Real>(scored ? loss : Vector{} + nan, count, utterance_loss + t);
    store_lanes<Real>(scored ? Vector{} + 1 : Vector{}, count, weight + t);
    num_scored.add(scored);
    num_nonfinite.add(candidate & (~finite | ((loss > 0) & (2 * loss == loss))));
    if (gradient != nullptr) {
      for (int64_t c = 0; c < num_classes; ++c) store_lanes<Real>(at(c), count, block_of(t) + c * count);
    }
  }
  Tally<Real> num_scored, num_nonfinite;

  /// Between the passes, the gradient of a block's rows holds their softmax as [classes][rows].
  Real* block_of(int64_t t) const { return gradient + t * num_classes; }

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

  Vector difficulty_of(int64_t t, int count, Vector loss) const {
    Vector rho = harmonic_mean(load_lanes<Real>(difficulty + t, count, nan), loss);
    if (batch.extra_difficulty != nullptr) {
      for (int lane = 0; lane < count; ++lane) {
        const char* address = batch.extra_difficulty + (t + lane) * batch.extra_stride;
        rho[lane] += static_cast<Real>(load_float(batch.extra_type, address));
      }
    }
    return rho;
  }

  /// Second pass over a block of rows: difficulty, weight, totals, gradient.
  void weigh_block(int64_t t, int count, int64_t first, const int32_t* labels) {
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

  void write_gradient(int64_t t, int count, const int32_t* labels, Mask selected, Vector scale) {
    const Mask label = lane_labels(labels, count);
    Real* block = block_of(t);
    const Real smoothing = static_cast<Real>(batch.label_smoothing);
    const Real smooth = smoothing / static_cast<Real>(num_classes);
    Vector own = Vector{} + 1;
    Vector all = own;
    if (is_weighted) {
      for (int lane = 0; lane < count; ++lane) {
        own[lane] = labels[lane] < 0 ? Real{} : class_weight(labels[lane]) * (1 - smoothing);
      }
      all = own + smooth * static_cast<Real>(batch.class_weight_sum);
    }
    const Vector own_scale = own * scale, all_scale = all * scale;
    for (int64_t c = 0; c < num_classes; ++c) {
      Vector g = load_lanes<Real>(block + c * count, count, Real{}) * all_scale;
      g = label == static_cast<Index>(c) ? g - own_scale : g;
      if (smoothing > 0) g = g - scale * (smooth * class_weight(c));
      at(c) = selected ? g : Vector{};
    }
    row_tiles.write(classes, count, num_classes, block);
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
