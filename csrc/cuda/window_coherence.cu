#include <algorithm>
#include <type_traits>

#include "cuda/coherence_embeddings.h"
#include "cuda/coherence_launch.h"
#include "cuda/coherence_tile.h"
#include "cuda/window_coherence.h"

namespace spcl {
namespace on_device {
namespace {

template <class Stored, bool of_predictions>
__global__ void __launch_bounds__(kUtteranceThreads, 8)
    coherence_utterance_fwd_kernel(const __grid_constant__ CoherenceRows input, double* c) {
  SPCL_DYNAMIC_SHARED(double, memory);
  typedef WarpUtterance<Stored, of_predictions> Utterance;
  const int64_t warp = threadIdx.x / 32, t = int64_t{blockIdx.x} * kUtteranceWarps + warp;
  if (t >= input.sources.rows) return;
  Utterance utterance(input, t, memory + warp * Utterance::numbers(input.sources.modalities));
  const double value = utterance.coherence();
  if (threadIdx.x % 32 == 0) c[t] = value;
}

template <class Stored>
struct Forward {
  const CoherenceRows input;
  double* c;
  cudaStream_t stream;

  template <int rows, int lanes>
  void embeddings() const {
    const int per_warp = utterances_of_warp(input.sources.rows, 32, 32 / lanes);
    SPCL_LAUNCH((coherence_embeddings_fwd_kernel<Stored, rows, lanes>), warps_grid(input.sources.rows, per_warp),
                kCoherenceThreads, 0, stream, input, rows_are_aligned<Stored>(input.sources), per_warp, c);
  }
  template <int rows>
  void tile(int threads, int64_t bytes) const {
    SPCL_LAUNCH((coherence_tile_fwd_kernel<Stored, rows>), tile_grid(input.sources.rows, threads), threads, bytes,
                stream, input, c);
  }
  template <bool of_predictions>
  void utterance(int64_t bytes) const {
    SPCL_LAUNCH((coherence_utterance_fwd_kernel<Stored, of_predictions>), utterance_grid(input.sources.rows),
                kUtteranceThreads, bytes, stream, input, c);
  }
};

}  // namespace
}  // namespace on_device

void coherence_cuda(const CoherenceRows& rows, double* c, cudaStream_t stream) {
  with_float_type(rows.sources.type, [&](auto* type) {
    typedef std::remove_pointer_t<decltype(type)> Stored;
    on_device::launch_coherence<Stored>(on_device::Forward<Stored>{on_device::apart(rows), c, stream});
  });
}

}  // namespace spcl
