#include "cuda/modality_scores.h"
#include "cuda/score_rows.h"

namespace spcl {
namespace on_device {
namespace {

/// What scores a row as its classes go by. `true_logit` is the logit of its label, NaN where there is nothing to score.
template <class Real>
struct RowScorer {
  Real maximum;
  RowSums<Real> sums;

  __device__ __forceinline__ RowScorer(Real maximum_, Real true_logit, bool has_others)
      : maximum(maximum_), sums(nan_of<Real>(), has_others) {
    sums.true_shift = true_logit - maximum;
    sums.true_exp = exp_of(sums.true_shift);
  }

  __device__ __forceinline__ void add(Real logit, bool is_true) {
    const Real bounded = bounded_shift(logit - maximum);
    const Real exponential = exp_of_shift(bounded);
    sums.add_to_tile(bounded, exponential, [](Real a, Real b, Real c) { return multiply_add(a, b, c); });
    if (!is_true) sums.other_exp = larger(sums.other_exp, exponential);
  }

  __device__ __forceinline__ RowScores<Real> finish() const {
    return sums.finish([](Real x) { return log_of_total(x); },
                       [](Real part, Real total) { return share_of(part, total); });
  }
};

/// The scores of a row that one thread holds.
template <class Real, int classes>
__device__ __forceinline__ RowScores<Real> scores_of(const Real (&logits)[classes], Real true_logit, int32_t label) {
  Real maximum = logits[0];
#pragma unroll
  for (int c = 1; c < classes; ++c) maximum = larger(maximum, logits[c]);
  RowScorer<Real> row(maximum, true_logit, classes > 1);
#pragma unroll
  for (int c = 0; c < classes; ++c) row.add(logits[c], c == label);
  row.sums.close_only_tile();
  return row.finish();
}

template <class Real>
__device__ __forceinline__ void write(const ScoresOutputs& outputs, int64_t m, int64_t row,
                                      const RowScores<Real>& scores) {
  const auto put = [&](const ScoreOutput& output, Real score) {
    reinterpret_cast<Real*>(output.data + m * output.modality_stride)[row] = score;
  };
  put(outputs.loss, scores.loss);
  put(outputs.confidence, scores.confidence);
  put(outputs.entropy, scores.entropy);
  put(outputs.margin, scores.margin);
}

/// Contiguous rows of a few classes: a row a thread, through shared memory. The outputs have one stride.
template <class Stored, int classes>
__global__ void __launch_bounds__(kScoreThreads, sizeof(Stored) == 8 ? 3 : (classes == 8 ? 5 : SPCL_MOST_BLOCKS_OF_256))
    modality_scores_fwd_kernel(const __grid_constant__ TileSources sources, const __grid_constant__ Labels labels,
                               const __grid_constant__ Present present, const __grid_constant__ ScoresOutputs outputs,
                               int64_t all_rows, int modalities, int staged) {
  using Tile = RowTile<Stored, classes>;
  using Real = typename Tile::Real;
  SPCL_DYNAMIC_SHARED(char, tiles);
  const TileBlock<Tile> block(all_rows, modalities, staged);
  block.start_copies(sources, tiles);
  int32_t label = -1;
  uint32_t scored = 0;
  if (block.own < block.rows) {
    bool is_bad;
    label = labels.class_of(block.row(), is_bad);
    scored = block.scored(present, label);
  }
  await_copies();
  __syncthreads();
  if (block.own >= block.rows) return;
  const int64_t stride = outputs.loss.modality_stride;
  int64_t at = block.first * stride + block.row() * static_cast<int64_t>(sizeof(Real));
  const char* tile = tiles;
#pragma unroll 1
  for (int k = 0; k < block.count; ++k) {
    const char* rows = tile + Tile::phase_of(sources.data[block.first + k]);
    Real values[classes];
    Tile::read(rows, block.own, values);
    const Real true_logit = scored & 1 ? Tile::read_one(rows, block.own, label) : nan_of<Real>();
    const RowScores<Real> scores = scores_of(values, true_logit, label);
    *reinterpret_cast<Real*>(outputs.loss.data + at) = scores.loss;
    *reinterpret_cast<Real*>(outputs.confidence.data + at) = scores.confidence;
    *reinterpret_cast<Real*>(outputs.entropy.data + at) = scores.entropy;
    *reinterpret_cast<Real*>(outputs.margin.data + at) = scores.margin;
    at += stride;
    scored >>= 1;
    tile += Tile::bytes(kScoreThreads);
  }
}

/// Rows of a few classes with any strides: a row a thread.
template <class Stored, int classes>
__global__ void __launch_bounds__(kScoreThreads)
    modality_scores_fwd_strided_kernel(const __grid_constant__ ScoresInputs inputs,
                                       const __grid_constant__ ScoresOutputs outputs) {
  using Real = typename Computed<Stored>::Real;
  const Sources& logits = inputs.logits;
  const int64_t row = int64_t{blockIdx.x} * kScoreThreads + threadIdx.x;
  if (row >= logits.rows) return;
  bool is_bad;
  const int32_t label = inputs.labels.class_of(row, is_bad);
  for (int64_t m = blockIdx.y; m < logits.modalities; m += gridDim.y) {
    const Sources::Source source = logits.modality(m);
    const char* data = source.data + row * source.row_stride;
    Real values[classes];
#pragma unroll
    for (int c = 0; c < classes; ++c) values[c] = load<Stored>(data + c * source.class_stride);
    const bool is_scored = label >= 0 && inputs.present.at(m, row);
    const Real true_logit = is_scored ? load<Stored>(data + label * source.class_stride) : nan_of<Real>();
    write(outputs, m, row, scores_of(values, true_logit, label));
  }
}

/// Rows of more classes: `lanes` lanes share a row, and read it again where it is longer than a step.
template <class Stored, int lanes>
__global__ void __launch_bounds__(kScoreThreads, sizeof(Stored) == 8 ? 2 : 3)
    modality_scores_fwd_shared_kernel(const __grid_constant__ ScoresInputs inputs,
                                      const __grid_constant__ ScoresOutputs outputs) {
  using Row = SharedRow<Stored, lanes>;
  using Real = typename Row::Real;
  const Sources& logits = inputs.logits;
  const int64_t wanted = int64_t{blockIdx.x} * kRowsOfBlock<lanes> + threadIdx.x / lanes;
  const int64_t row = wanted < logits.rows ? wanted : logits.rows - 1;  // every lane goes on to the exchanges
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  bool is_bad;
  const int32_t label = inputs.labels.class_of(row, is_bad);
  for (int64_t m = blockIdx.y; m < logits.modalities; m += gridDim.y) {
    const Row shared(logits.modality(m), row, logits.columns, lane);
    Real values[Row::kValues];
    Real maximum = -infinity_of<Real>();
    for (int64_t first = 0; first < shared.classes; first += Row::kStep) {
      shared.read(first, values);
#pragma unroll
      for (int k = 0; k < Row::kValues; ++k) maximum = larger(maximum, values[k]);
    }
    maximum = max_of_group<lanes>(maximum);

    const bool is_scored = label >= 0 && inputs.present.at(m, row);
    RowScorer<Real> scorer(maximum, is_scored ? shared.at(label) : nan_of<Real>(), true);
    for (int64_t first = 0; first < shared.classes; first += Row::kStep) {
      if (!shared.is_one_step()) shared.read(first, values);
      shared.for_values(first, [&](int k, int64_t c) { scorer.add(values[k], c == label); });
      scorer.sums.close_tile();
    }
    RowSums<Real>& sums = scorer.sums;
    sums.sum = sum_over_lanes<lanes>(sums.sum, sums.sum_error);
    sums.weighted = sum_over_lanes<lanes>(sums.weighted, sums.weighted_error);
    sums.other_exp = max_of_group<lanes>(sums.other_exp);
    const RowScores<Real> scores = scorer.finish();
    if (lane == 0 && wanted < logits.rows) write(outputs, m, row, scores);
  }
}

bool have_one_stride(const ScoresOutputs& outputs) {
  const int64_t stride = outputs.loss.modality_stride;
  return outputs.confidence.modality_stride == stride && outputs.entropy.modality_stride == stride &&
         outputs.margin.modality_stride == stride;
}

template <class Stored, int classes>
void launch_few(const ScoresInputs& inputs, const ScoresOutputs& outputs, cudaStream_t stream) {
  const Sources& logits = inputs.logits;
  const auto blocks = static_cast<unsigned>(parts_of(logits.rows, kScoreThreads));
  if constexpr (classes > 1) {
    TileSources tiles{};
    if (have_one_stride(outputs) && fits_tiles<Stored, classes>(logits, tiles)) {
      const int staged = staged_modalities<Stored, classes>(logits.modalities);
      const dim3 grid(blocks, grid_of(parts_of(logits.modalities, staged)));
      const auto bytes = static_cast<size_t>(staged * RowTile<Stored, classes>::bytes(kScoreThreads));
      SPCL_LAUNCH((modality_scores_fwd_kernel<Stored, classes>), grid, kScoreThreads, bytes, stream, tiles,
                  inputs.labels, inputs.present, outputs, logits.rows, static_cast<int>(logits.modalities), staged);
      return;
    }
  }
  const dim3 grid(blocks, grid_of(logits.modalities, kMostAcross));
  SPCL_LAUNCH((modality_scores_fwd_strided_kernel<Stored, classes>), grid, kScoreThreads, 0, stream, inputs, outputs);
}

}  // namespace
}  // namespace on_device

void modality_scores_cuda(const ScoresInputs& inputs, const ScoresOutputs& outputs, cudaStream_t stream) {
  const Sources& logits = inputs.logits;
  if (logits.rows == 0 || logits.modalities == 0) return;
  with_float_type(logits.type, [&](auto* type) {
    using Stored = std::remove_pointer_t<decltype(type)>;
    if (logits.columns <= on_device::kFewClasses) {
      on_device::with_few_classes(logits.columns, [&](auto classes) {
        on_device::launch_few<Stored, decltype(classes)::value>(inputs, outputs, stream);
      });
      return;
    }
    on_device::with_lanes(logits.columns, [&](auto lanes) {
      constexpr int kLanes = decltype(lanes)::value;
      const dim3 grid = on_device::grid_of_groups<kLanes>(logits);
      SPCL_LAUNCH((on_device::modality_scores_fwd_shared_kernel<Stored, kLanes>), grid, on_device::kScoreThreads, 0,
                  stream, inputs, outputs);
    });
  });
}

}  // namespace spcl
