#pragma once

// Which kernel a call of `window_coherence` gets, the same for both passes.

#include <algorithm>

#include "cuda/coherence_embeddings.h"
#include "cuda/coherence_tile.h"

namespace spcl {
namespace on_device {

inline constexpr int kUtteranceThreads = 128;
inline constexpr int kUtteranceWarps = kUtteranceThreads / 32;
/// Features up to which eight lanes are enough for an utterance.
inline constexpr int64_t kFewFeatures = 128;

/// Utterances of a warp: at most `most`, fewer where there would not be warps enough to be busy, in whole groups.
inline int utterances_of_warp(int64_t utterances, int most, int groups) {
  constexpr int64_t busy = 8192;
  const int64_t share = parts_of(utterances, busy);
  return static_cast<int>(std::min<int64_t>(most, parts_of(share, groups) * groups));
}

inline unsigned warps_grid(int64_t utterances, int per_warp) {
  return grid_of(parts_of(utterances, int64_t{kCoherenceWarps} * per_warp), INT32_MAX);
}
inline unsigned tile_grid(int64_t utterances, int threads) { return grid_of(parts_of(utterances, threads), INT32_MAX); }
inline unsigned utterance_grid(int64_t utterances) { return grid_of(parts_of(utterances, kUtteranceWarps), INT32_MAX); }

/// The modalities of one tensor as tensors of their own, where there are not too many.
inline CoherenceRows apart(const CoherenceRows& input) {
  CoherenceRows rows = input;
  if (input.sources.count > 1 || input.sources.modalities > kMostSources) return rows;
  for (int m = 0; m < input.sources.modalities; ++m) rows.sources.sources[m] = input.sources.modality(m);
  rows.sources.count = static_cast<int>(input.sources.modalities);
  rows.sources.modality_stride = 0;
  return rows;
}

template <class Stored, int rows, class Pass>
void launch_rows(const Pass& pass) {
  const CoherenceRows& input = pass.input;
  if (!input.of_predictions) {
    if constexpr (sizeof(Stored) < 8) {
      if (input.sources.columns <= kFewFeatures) return pass.template embeddings<rows, 8>();
    }
    return pass.template embeddings<rows, 32>();
  }
  int threads = 128;
  while (PredictionTile<Stored, rows>::bytes(threads, input.sources.columns) > kMostSharedBytes) threads /= 2;
  pass.template tile<rows>(threads, PredictionTile<Stored, rows>::bytes(threads, input.sources.columns));
}

template <class Stored, class Pass>
void launch_coherence(const Pass& pass) {
  const CoherenceRows& input = pass.input;
  if (input.sources.rows == 0) return;
  const int64_t modalities = input.sources.modalities;
  if (modalities <= 4 && (!input.of_predictions || input.sources.columns <= kTileColumns)) {
    if (modalities == 2) return launch_rows<Stored, 2>(pass);
    if (modalities == 3) return launch_rows<Stored, 3>(pass);
    return launch_rows<Stored, 4>(pass);
  }
  const int64_t bytes = kUtteranceWarps * WarpUtterance<Stored, false>::numbers(modalities) * 8;
  if (input.of_predictions) return pass.template utterance<true>(bytes);
  pass.template utterance<false>(bytes);
}

}  // namespace on_device
}  // namespace spcl
