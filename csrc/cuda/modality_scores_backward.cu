#include "cuda/modality_scores.h"
#include "cuda/score_rows.h"

namespace spcl {
namespace on_device {
namespace {

/// What arrives at the scores of a row; 0 where nothing does.
template <class Real>
__device__ __forceinline__ ScoreGradients<Real> arriving(const ScoresGradients& gradients, int64_t m, int64_t row,
                                                         bool has_others) {
  const auto of = [&](const ScoreGradient& gradient) {
    if (gradient.data == nullptr) return Real{};
    const char* address = gradient.data + m * gradient.modality_stride + row * gradient.row_stride;
    return *reinterpret_cast<const Real*>(address);
  };
  // With one class the margin is NaN whatever the logit is.
  return {of(gradients.loss), of(gradients.confidence), of(gradients.entropy),
          has_others ? of(gradients.margin) : Real{}};
}

/// The gradient of a row that one thread holds, in place of its logits. `is_scored` implies that `label` is a class.
template <class Real, int classes>
__device__ __forceinline__ void send_back(Real (&values)[classes], Real true_logit, int32_t label, bool is_scored,
                                          const ScoreGradients<Real>& of) {
  Real maximum = -infinity_of<Real>(), rival = -infinity_of<Real>();
#pragma unroll
  for (int c = 0; c < classes; ++c) {
    maximum = larger(maximum, values[c]);
    if (c != label) rival = larger(rival, values[c]);
  }
  Real exponentials[classes];
  Real sum = 0, weighted = 0;
  int ties = 0;
#pragma unroll
  for (int c = 0; c < classes; ++c) {
    const Real bounded = bounded_shift(values[c] - maximum);
    exponentials[c] = exp_of_shift(bounded);
    sum += exponentials[c];
    weighted = multiply_add(exponentials[c], bounded, weighted);
    ties += c != label && values[c] == rival ? 1 : 0;
  }
  const RowGradient<Real> row(of, sum, weighted, exp_of(true_logit - maximum), exp_of(rival - maximum),
                              static_cast<Real>(ties));
  const bool is_sent = is_scored && sum == sum;
#pragma unroll
  for (int c = 0; c < classes; ++c) {
    Real gradient = row.with_entropy(bounded_shift(values[c] - maximum), exponentials[c]);
    if (c == label) {
      gradient += row.at_label;
    } else if (values[c] == rival) {
      gradient -= row.at_rival;
    }
    values[c] = is_sent ? gradient : Real{};
  }
}

/// Contiguous rows of a few classes: a row a thread, through shared memory on the way in and out.
template <class Stored, int classes>
__global__ void __launch_bounds__(kScoreThreads, sizeof(Stored) == 8 ? 1 : 5)
    modality_scores_bwd_kernel(const __grid_constant__ TileSources sources, const __grid_constant__ Labels labels,
                               const __grid_constant__ Present present,
                               const __grid_constant__ ScoresGradients gradients, char* gradient, int64_t all_rows,
                               int modalities, int staged) {
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
  if (block.own < block.rows) {
#pragma unroll 1
    for (int k = 0; k < block.count; ++k) {
      char* rows = block.tile(tiles, k) + Tile::phase_of(sources.data[block.first + k]);
      Real values[classes];
      Tile::read(rows, block.own, values);
      const bool is_scored = scored >> k & 1;
      const Real true_logit = is_scored ? Tile::read_one(rows, block.own, label) : nan_of<Real>();
      send_back(values, true_logit, label, is_scored,
                arriving<Real>(gradients, block.first + k, block.row(), classes > 1));
      Tile::write(rows, block.own, values);
    }
  }
  __syncthreads();
#pragma unroll 1
  for (int k = 0; k < block.count; ++k) {
    const int64_t first_row = (block.first + k) * all_rows + block.begin;
    Tile::template store<kScoreThreads>(block.tile(tiles, k), Tile::phase_of(sources.data[block.first + k]), block.rows,
                                        gradient + first_row * Tile::kRowBytes);
  }
}

/// Rows of a few classes with any strides: a row a thread.
template <class Stored, int classes>
__global__ void __launch_bounds__(kScoreThreads, sizeof(Stored) == 8 ? 1 : 4)
    modality_scores_bwd_strided_kernel(const __grid_constant__ ScoresInputs inputs,
                                       const __grid_constant__ ScoresGradients gradients, char* gradient) {
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
    send_back(values, true_logit, label, is_scored, arriving<Real>(gradients, m, row, classes > 1));
    Stored* out = reinterpret_cast<Stored*>(gradient) + (m * logits.rows + row) * classes;
#pragma unroll
    for (int c = 0; c < classes; ++c) out[c] = narrowed<Stored>(values[c]);
  }
}

/// Rows of more classes: `lanes` lanes share a row, and read it again where it is longer than a step.
template <class Stored, int lanes>
__global__ void __launch_bounds__(kScoreThreads, sizeof(Stored) == 8 ? 2 : 3)
    modality_scores_bwd_shared_kernel(const __grid_constant__ ScoresInputs inputs,
                                      const __grid_constant__ ScoresGradients gradients, char* gradient) {
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
    Real maximum = -infinity_of<Real>(), rival = -infinity_of<Real>();
    for (int64_t first = 0; first < shared.classes; first += Row::kStep) {
      shared.read(first, values);
      shared.for_values(first, [&](int k, int64_t c) {
        maximum = larger(maximum, values[k]);
        if (c != label) rival = larger(rival, values[k]);
      });
    }
    maximum = max_of_group<lanes>(maximum);
    rival = max_of_group<lanes>(rival);

    TileSum<Real> sum, weighted;
    int ties = 0;
    for (int64_t first = 0; first < shared.classes; first += Row::kStep) {
      if (!shared.is_one_step()) shared.read(first, values);
      shared.for_values(first, [&](int k, int64_t c) {
        const Real bounded = bounded_shift(values[k] - maximum);
        const Real exponential = exp_of_shift(bounded);
        sum.tile += exponential;
        weighted.tile = multiply_add(exponential, bounded, weighted.tile);
        ties += c != label && values[k] == rival ? 1 : 0;
      });
      sum.close_tile();
      weighted.close_tile();
    }
    const Real total = sum_over_lanes<lanes>(sum.total, sum.error);
    const Real total_weighted = sum_over_lanes<lanes>(weighted.total, weighted.error);
    ties = sum_of_group<lanes>(ties);

    const bool is_scored = label >= 0 && inputs.present.at(m, row);
    const Real true_logit = is_scored ? shared.at(label) : nan_of<Real>();
    const RowGradient<Real> of_row(arriving<Real>(gradients, m, row, true), total, total_weighted,
                                   exp_of(true_logit - maximum), exp_of(rival - maximum), static_cast<Real>(ties));
    const bool is_sent = is_scored && total == total;
    char* out = gradient + (m * logits.rows + row) * shared.classes * Row::kSize;
    for (int64_t first = 0; first < shared.classes; first += Row::kStep) {
      if (!shared.is_one_step()) shared.read(first, values);
      shared.for_values(first, [&](int k, int64_t c) {
        const Real bounded = bounded_shift(values[k] - maximum);
        Real part = of_row.with_entropy(bounded, exp_of_shift(bounded));
        if (c == label) {
          part += of_row.at_label;
        } else if (values[k] == rival) {
          part -= of_row.at_rival;
        }
        values[k] = is_sent ? part : Real{};
      });
      if (wanted < logits.rows) shared.write(first, values, out);
    }
  }
}

template <class Stored, int classes>
void launch_few(const ScoresInputs& inputs, const ScoresGradients& gradients, char* gradient, cudaStream_t stream) {
  const Sources& logits = inputs.logits;
  const auto blocks = static_cast<unsigned>(parts_of(logits.rows, kScoreThreads));
  if constexpr (classes > 1) {
    TileSources tiles{};
    if (fits_tiles<Stored, classes>(logits, tiles)) {
      const int staged = staged_modalities<Stored, classes>(logits.modalities);
      const dim3 grid(blocks, grid_of(parts_of(logits.modalities, staged)));
      const auto bytes = static_cast<size_t>(staged * RowTile<Stored, classes>::bytes(kScoreThreads));
      SPCL_LAUNCH((modality_scores_bwd_kernel<Stored, classes>), grid, kScoreThreads, bytes, stream, tiles,
                  inputs.labels, inputs.present, gradients, gradient, logits.rows, static_cast<int>(logits.modalities),
                  staged);
      return;
    }
  }
  const dim3 grid(blocks, grid_of(logits.modalities, kMostAcross));
  SPCL_LAUNCH((modality_scores_bwd_strided_kernel<Stored, classes>), grid, kScoreThreads, 0, stream, inputs, gradients,
              gradient);
}

}  // namespace
}  // namespace on_device

void modality_scores_backward_cuda(const ScoresInputs& inputs, const ScoresGradients& gradients, void* gradient,
                                   cudaStream_t stream) {
  const Sources& logits = inputs.logits;
  if (logits.rows == 0 || logits.modalities == 0) return;
  with_float_type(logits.type, [&](auto* type) {
    using Stored = std::remove_pointer_t<decltype(type)>;
    if (logits.columns <= on_device::kFewClasses) {
      on_device::with_few_classes(logits.columns, [&](auto classes) {
        on_device::launch_few<Stored, decltype(classes)::value>(inputs, gradients, static_cast<char*>(gradient),
                                                                stream);
      });
      return;
    }
    on_device::with_lanes(logits.columns, [&](auto lanes) {
      constexpr int kLanes = decltype(lanes)::value;
      const dim3 grid = on_device::grid_of_groups<kLanes>(logits);
      SPCL_LAUNCH((on_device::modality_scores_bwd_shared_kernel<Stored, kLanes>), grid, on_device::kScoreThreads, 0,
                  stream, inputs, gradients, static_cast<char*>(gradient));
    });
  });
}

}  // namespace spcl
