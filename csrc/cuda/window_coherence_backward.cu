#include <algorithm>
#include <type_traits>

#include "cuda/coherence_embeddings_backward.h"
#include "cuda/coherence_launch.h"
#include "cuda/coherence_tile.h"
#include "cuda/window_coherence.h"

namespace spcl {
namespace on_device {
namespace {

/// Utterances that a warp reads twice: few enough for the cache to have them the second time.
constexpr int kReadAgain = 4;

template <class Stored, bool of_predictions>
__global__ void __launch_bounds__(kUtteranceThreads, 8)
    coherence_utterance_bwd_kernel(const __grid_constant__ CoherenceRows input, const double* of_c,
                                   GradientRows<Stored> gradient) {
  SPCL_DYNAMIC_SHARED(double, memory);
  typedef WarpUtterance<Stored, of_predictions> Utterance;
  const int64_t warp = threadIdx.x / 32, t = int64_t{blockIdx.x} * kUtteranceWarps + warp;
  if (t >= input.sources.rows) return;
  Utterance utterance(input, t, memory + warp * Utterance::numbers(input.sources.modalities));
  utterance.write_gradient(of_c[t], gradient);
}

template <class Stored>
struct Backward {
  const CoherenceRows input;
  const double* of_c;
  GradientRows<Stored> gradient;
  cudaStream_t stream;

  template <int rows, int lanes>
  void embeddings() const {
    const int per_warp = utterances_of_warp(input.sources.rows, lanes == 32 ? kReadAgain : 32, 32 / lanes);
    const bool is_aligned = reinterpret_cast<uintptr_t>(gradient.data) % 16 == 0 &&
                            gradient.columns * static_cast<int64_t>(sizeof(Stored)) % 16 == 0;
    SPCL_LAUNCH((coherence_embeddings_bwd_kernel<Stored, rows, lanes>), warps_grid(input.sources.rows, per_warp),
                kCoherenceThreads, 0, stream, input, rows_are_aligned<Stored>(input.sources), per_warp, of_c, gradient,
                is_aligned);
  }
  template <int rows>
  void tile(int threads, int64_t bytes) const {
    SPCL_LAUNCH((coherence_tile_bwd_kernel<Stored, rows>), tile_grid(input.sources.rows, threads), threads, bytes,
                stream, input, of_c, gradient);
  }
  template <bool of_predictions>
  void utterance(int64_t bytes) const {
    SPCL_LAUNCH((coherence_utterance_bwd_kernel<Stored, of_predictions>), utterance_grid(input.sources.rows),
                kUtteranceThreads, bytes, stream, input, of_c, gradient);
  }
};

}  // namespace
}  // namespace on_device

void coherence_backward_cuda(const CoherenceRows& rows, const double* of_c, void* gradient, cudaStream_t stream) {
  with_float_type(rows.sources.type, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> Stored;
    const on_device::GradientRows<Stored> of_rows{static_cast<Stored*>(gradient), rows.sources.rows,
                                                  rows.sources.columns};
    on_device::launch_coherence<Stored>(on_device::Backward<Stored>{on_device::apart(rows), of_c, of_rows, stream});
  });
}

}  // namespace spcl
