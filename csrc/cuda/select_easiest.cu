#include "cuda/few_values.h"
#include "cuda/reduce.h"
#include "cuda/select_easiest.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = 256;

/// Of few values.
template <class Keys>
__global__ void __launch_bounds__(kThreadsOfFew) select_easiest_fwd_kernel(Ranking ranking, bool* selected) {
  typedef FewValues<Keys> Values;
  const Values values(ranking);
  int ties = 0;  // of the warp
#pragma unroll
  for (int k = 0; k < Values::each; ++k) ties += __popc(__ballot_sync(kWholeWarp, values.keys[k] == values.threshold));
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto scanned = scan_of_block<kThreadsOfFew>(lane == 0 ? ties : 0);
  int left = values.rank - __shfl_sync(kWholeWarp, scanned.before, 0);  // ties to take, of this warp or later ones
#pragma unroll
  for (int k = 0; k < Values::each; ++k) {
    const bool is_tie = values.keys[k] == values.threshold;
    const unsigned among = __ballot_sync(kWholeWarp, is_tie);
    const bool taken = values.keys[k] < values.threshold || (is_tie && __popc(among & ((1u << lane) - 1)) < left);
    left -= __popc(among);
    if (Values::index(k) < ranking.count) selected[Values::index(k)] = taken;
  }
}

/// Finds in which chunk the last tie is that is taken, where some are not.
template <class Keys>
__global__ void __launch_bounds__(kThreads)
    select_easiest_ties_kernel(Ranking ranking, bool pieces, OrderWork* work, unsigned* ties, int64_t chunks) {
  constexpr int size = KeyPiece<Keys>::size;
  Threshold& threshold = work->threshold;
  if (threshold.rank == threshold.equal) return;
  const auto wanted = static_cast<typename Keys::Key>(threshold.key);
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t begin = chunk * kTieChunk, end = min(ranking.count, begin + kTieChunk);
    unsigned found = 0;
#pragma unroll 4
    for (int step = 0; step < kTieChunk / (size * kThreads); ++step) {
      typename Keys::Key keys[size];
      read_keys<Keys>(ranking.values, pieces, begin + (step * kThreads + threadIdx.x) * size, end, keys);
#pragma unroll
      for (int k = 0; k < size; ++k) found += keys[k] == wanted;
    }
    found = sum_of_group<kThreads>(found);
    if (threadIdx.x == 0) ties[chunk] = found;
  }
  if (!is_last_block(&threshold.ticket)) return;
  const long long rank = threshold.rank;
  long long before = 0;
  for (int64_t first = 0; before < rank && first < chunks; first += kThreads) {
    const int64_t chunk = first + threadIdx.x;
    const long long found = chunk < chunks ? ties[chunk] : 0;
    const auto scanned = scan_of_block<kThreads>(found);
    const long long left = rank - before - scanned.before;
    if (left > 0 && left <= found) {
      threshold.cut = chunk;
      threshold.left = left;
    }
    before += scanned.all;
    __syncthreads();
  }
}

template <int size>
struct alignas(size) Marks {
  bool values[size];
};

/// Writes which keys of a piece are taken.
template <class Keys, class Take>
__device__ __forceinline__ void mark_piece(const typename Keys::Key* keys, bool* selected, bool pieces, int64_t index,
                                           int64_t end, Take take) {
  constexpr int size = KeyPiece<Keys>::size;
  Marks<size> marks;
#pragma unroll
  for (int k = 0; k < size; ++k) marks.values[k] = take(keys[k]);
  if (pieces && index + size <= end) {
    *reinterpret_cast<Marks<size>*>(selected + index) = marks;
  } else {
#pragma unroll
    for (int k = 0; k < size; ++k) {
      if (index + k < end) selected[index + k] = marks.values[k];
    }
  }
}

template <class Keys>
__global__ void __launch_bounds__(kThreads, 4)
    select_easiest_marks_kernel(Ranking ranking, bool pieces, const Threshold* found, bool* selected, int64_t chunks) {
  typedef typename Keys::Key Key;
  constexpr int size = KeyPiece<Keys>::size, steps = kTieChunk / (size * kThreads);
  const Threshold threshold = *found;
  const Key key = static_cast<Key>(threshold.key);
  const int64_t all = threshold.known > 0 ? chunks : -1;
  const int64_t cut = threshold.rank == threshold.equal ? all : threshold.cut;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t begin = chunk * kTieChunk, end = min(ranking.count, begin + kTieChunk);
    if (chunk != cut) {
      const Key bound = key + (chunk < cut ? 1 : 0);
#pragma unroll 4
      for (int step = 0; step < steps; ++step) {
        const int64_t index = begin + (step * kThreads + threadIdx.x) * size;
        Key keys[size];
        read_keys<Keys>(ranking.values, pieces, index, end, keys);
        mark_piece<Keys>(keys, selected, pieces, index, end, [&](Key other) { return other < bound; });
      }
      continue;
    }
    int left = static_cast<int>(threshold.left);
    for (int step = 0; step < steps; ++step) {
      const int64_t index = begin + (step * kThreads + threadIdx.x) * size;
      Key keys[size];
      read_keys<Keys>(ranking.values, pieces, index, end, keys);
      int ties = 0;
#pragma unroll
      for (int k = 0; k < size; ++k) ties += keys[k] == key;
      const auto scanned = scan_of_block<kThreads>(ties);
      int own = left - scanned.before;
      mark_piece<Keys>(keys, selected, pieces, index, end,
                       [&](Key other) { return other < key || (other == key && own-- > 0); });
      left -= scanned.all;
      __syncthreads();
    }
  }
}

}  // namespace
}  // namespace on_device

void select_easiest_cuda(const Ranking& ranking, OrderWork* work, bool* selected, cudaStream_t stream) {
  using namespace on_device;
  if (ranking.count == 0) return;
  with_float_type(ranking.values.type, [&]<class Stored>(Stored*) {
    typedef typename KeysOf<Stored>::Keys Keys;
    if (ranking.count <= kFewValues) {
      SPCL_LAUNCH(select_easiest_fwd_kernel<Keys>, 1, kThreadsOfFew, 0, stream, ranking, selected);
      return;
    }
    order_statistic_cuda(ranking, work, nullptr, stream);
    const bool pieces = has_pieces<Keys>(ranking.values) && reinterpret_cast<uintptr_t>(selected) % 16 == 0;
    auto* ties = reinterpret_cast<unsigned*>(work + 1);
    const int64_t chunks = parts_of(ranking.count, kTieChunk);
    const unsigned grid = grid_of(chunks);
    SPCL_LAUNCH(select_easiest_ties_kernel<Keys>, grid, kThreads, 0, stream, ranking, pieces, work, ties, chunks);
    SPCL_LAUNCH(select_easiest_marks_kernel<Keys>, grid, kThreads, 0, stream, ranking, pieces, &work->threshold,
                selected, chunks);
  });
}

}  // namespace spcl
