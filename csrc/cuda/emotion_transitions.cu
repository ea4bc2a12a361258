#include "cuda/block_offsets.h"
#include "cuda/emotion_transitions.h"
#include "cuda/reduce.h"
#include "cuda/transition_tile.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksAtOnce = 4;  // of a multiprocessor, at least
typedef TransitionTile<kThreads> Tile;
/// Longer dialogues have a tile of their own, or several, and all threads add up what they have. A dialogue's length
/// alone decides how its numbers are added; in no other does a sum of marks overflow.
constexpr int64_t kLongDialogue = 255;
constexpr int64_t kBlocks = 6144;  // at most: each adds its counts to those of all

template <class Real>
struct CodeOf {
  typedef int32_t Code;
};
template <>
struct CodeOf<double> {
  typedef int64_t Code;
};

/// Transition i -> j has the code i C + j; until all are counted, it is where the surprisal will be.
struct Codes {
  int32_t num_classes;
  __device__ __forceinline__ int32_t first() const { return num_classes * num_classes; }  // of a chain, or after a cut
  __device__ __forceinline__ int32_t undefined() const { return first() + 1; }
};

/// The changes of a part of a dialogue.
struct Changes {
  int scored = 0, same = 0, cross = 0, speakers = 0;
  double weight = 0;
};

/// What a row adds to them, a byte each, so that up to 255 rows are added at once.
constexpr uint32_t kScored = 1, kSame = 1 << 8, kCross = 1 << 16, kNew = 1 << 24;

__device__ __forceinline__ void add(Changes& changes, uint32_t marks) {
  changes.scored += static_cast<int>(marks & 255);
  changes.same += static_cast<int>(marks >> 8 & 255);
  changes.cross += static_cast<int>(marks >> 16 & 255);
  changes.speakers += static_cast<int>(marks >> 24);
}

template <class Real>
__device__ __forceinline__ void store_changes(const TransitionsCall& call, int64_t d, int64_t scored, int64_t same,
                                              int64_t cross, int64_t speakers, double weight) {
  const double total = call.similarity.data != nullptr ? weight : static_cast<double>(same);
  call.same_speaker_shifts[d] = same;
  call.cross_speaker_shifts[d] = cross;
  call.speakers_of[d] = speakers;
  static_cast<Real*>(call.difficulty)[d] = static_cast<Real>(difficulty_of_dialogue(total, speakers, scored));
}

__device__ __forceinline__ double weight_between(const TransitionsCall& call, int i, int j) {
  const FloatRows& similarity = call.similarity;
  return weight_of_change(
      load_number(similarity.type, similarity.data + i * similarity.row_stride + j * similarity.class_stride));
}

/// Writes the code of a row, or its surprisal where the table is there already.
template <class Real>
__device__ __forceinline__ void store_code(const TransitionsCall& call, int64_t row, int32_t code) {
  if (call.has_fitted && call.table != nullptr) {
    Real value = code == Codes{call.num_classes}.first() ? Real(0) : nan_of<Real>();
    if (code < Codes{call.num_classes}.first()) value = static_cast<const Real*>(call.table)[code];
    static_cast<Real*>(call.surprisal)[row] = value;
  } else {
    static_cast<typename CodeOf<Real>::Code*>(call.surprisal)[row] = code;
  }
}

/// Writes what follows for a row from what is before it, and counts its transition; `counts`: the block's, or null.
template <class Real>
__device__ __forceinline__ uint32_t finish_row(const TransitionsCall& call, int64_t row, int c, const Before& before,
                                               unsigned* counts, double& weight) {
  const Codes codes{call.num_classes};
  const bool same = before.own >= 0 && before.own != c;
  const bool cross = before.previous >= 0 && before.previous != c && before.is_other;
  const int from = call.by_speaker ? before.own : before.previous;
  const int32_t transition = from * call.num_classes + c;
  store_code<Real>(call, row, c < 0 ? codes.undefined() : from < 0 ? codes.first() : transition);
  weight = 0;
  if (c < 0) return 0;
  if (from >= 0 && counts != nullptr) atomicAdd(counts + transition, 1u);
  if (from >= 0 && counts == nullptr) atomicAdd(call.counts + transition, 1ull);
  if (call.similarity.data != nullptr) {
    if (same) weight = weight_between(call, before.own, c);
    if (cross && call.weighs_both) weight += weight_between(call, before.previous, c);
  }
  return kScored | (same ? kSame : 0u) | (cross ? kCross : 0u) | (before.is_new ? kNew : 0u);
}

__device__ __forceinline__ bool look_back(const TransitionsCall& call, const Tile& tile, Before& before, int row,
                                          int lowest, Tile::Phases phases) {
  if (call.breaks) return tile.look_back<true>(before, row, lowest, phases);
  return tile.look_back<false>(before, row, lowest, phases);
}

/// A dialogue that has the block for itself: its rows tile by tile, every thread with its own sums.
template <class Real, bool whole>
__device__ __forceinline__ void long_dialogue(const TransitionsCall& call, int64_t d, int64_t begin, int64_t end,
                                              Tile& tile, unsigned* counts) {
  Changes changes;
  for (int64_t first = begin; first < end; first += Tile::rows) {
    const int count = static_cast<int>(min(int64_t{Tile::rows}, end - first));
    const auto phases = tile.template load<whole>(call, first, count);
    __syncthreads();
    for (int start = 0; start < count; start += kThreads) {
      const int row = start + static_cast<int>(threadIdx.x);
      const int c = row < count ? tile.class_at(row, phases) : -1;
      const int64_t speaker = row < count ? tile.speaker_at(row, phases) : -1;
      Before before;
      const bool is_done = c < 0 || look_back(call, tile, before, row, 0, phases);
      if (first > begin) look_further_back(call, before, !is_done, speaker, begin, first);
      if (row < count) {
        double weight;
        add(changes, finish_row<Real>(call, first + row, c, before, counts, weight));
        changes.weight += weight;
      }
    }
    __syncthreads();
  }
  const auto sum = [](int part) { return sum_of_group<kThreads>(int64_t{part}); };
  const int64_t scored = sum(changes.scored), same = sum(changes.same), cross = sum(changes.cross);
  const int64_t speakers = sum(changes.speakers);
  const double weight = sum_of_group<kThreads>(changes.weight);
  if (threadIdx.x == 0) store_changes<Real>(call, d, scored, same, cross, speakers, weight);
}

/// A block has `dialogues` of them, and takes as many at once as fit into a tile.
template <class Real, bool whole>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    emotion_transitions_fwd_kernel(const __grid_constant__ TransitionsCall call, int64_t dialogues, bool counts_apart) {
  using Marks = uint32_t[Tile::rows];
  using Starts = unsigned[(Tile::rows + 31) / 32];
  using Ends = int64_t[kThreads + 1];
  using Count = int;
  SPCL_SHARED(Tile, tile);
  SPCL_SHARED(Marks, marks);
  SPCL_SHARED(Starts, starts);  // a bit for each row that is the first of its dialogue
  SPCL_SHARED(Ends, ends);
  SPCL_SHARED(Count, together);
  SPCL_DYNAMIC_SHARED(double, weights);
  const int thread = static_cast<int>(threadIdx.x), transitions = call.num_classes * call.num_classes;
  const bool weighs = call.similarity.data != nullptr;
  unsigned* counts = counts_apart ? reinterpret_cast<unsigned*>(weights + (weighs ? Tile::rows + 1 : 0)) : nullptr;
  for (int k = thread; counts_apart && k < transitions; k += kThreads) counts[k] = 0;
  if (thread < static_cast<int>(sizeof(Starts) / sizeof(unsigned))) starts[thread] = 0;
  const BlockOffsets bounds(call.offsets);  // behind a barrier

  const int64_t D = call.offsets.dialogues, lowest = bounds.at(0), highest = bounds.at(D);
  const int64_t nobodys = lowest + call.offsets.rows - highest;
  for (int64_t k = int64_t{blockIdx.x} * kThreads + thread; k < nobodys; k += int64_t{gridDim.x} * kThreads) {
    store_code<Real>(call, k < lowest ? k : k - lowest + highest, Codes{call.num_classes}.undefined());
  }

  const int64_t last = min(D, (blockIdx.x + int64_t{1}) * dialogues);
  for (int64_t d = blockIdx.x * dialogues; d < last;) {
    const int there = static_cast<int>(min(int64_t{kThreads}, last - d));
    for (int k = thread; k <= there; k += kThreads) ends[k] = bounds.at(d + k);
    if (thread == 0) together = there;
    __syncthreads();
    const int64_t first = ends[0];
    if (thread < there) {
      const bool fits = ends[thread + 1] - ends[thread] <= kLongDialogue && ends[thread + 1] - first <= Tile::rows;
      if (!fits) atomicMin(&together, thread);
    }
    __syncthreads();
    const int taken = together;
    if (taken == 0) {
      long_dialogue<Real, whole>(call, d, first, ends[1], tile, counts);
      ++d;
      continue;
    }
    const int count = static_cast<int>(ends[taken] - first);
    const auto phases = tile.template load<whole>(call, first, count);
    if (thread < taken && ends[thread] < ends[thread + 1]) {
      const int start = static_cast<int>(ends[thread] - first);
      atomicOr(starts + start / 32, 1u << start % 32);
    }
    __syncthreads();
    for (int row = thread; row < count; row += kThreads) {
      int word = row / 32;
      unsigned before_row = starts[word] & ((2u << row % 32) - 1);
      while (before_row == 0) before_row = starts[--word];
      const int start = word * 32 + 31 - __clz(static_cast<int>(before_row)), c = tile.class_at(row, phases);
      Before before;
      if (c >= 0) look_back(call, tile, before, row, start, phases);
      double weight;
      marks[row] = finish_row<Real>(call, first + row, c, before, counts, weight);
      if (weighs) weights[row] = weight;
    }
    __syncthreads();
    if (thread < static_cast<int>(sizeof(Starts) / sizeof(unsigned))) starts[thread] = 0;
    if (thread < taken) {
      const int end = static_cast<int>(ends[thread + 1] - first);
      uint32_t sum = 0;
      Changes changes;
      for (int row = static_cast<int>(ends[thread] - first); row < end; ++row) {
        sum += marks[row];
        if (weighs) changes.weight += weights[row];
      }
      add(changes, sum);
      store_changes<Real>(call, d + thread, changes.scored, changes.same, changes.cross, changes.speakers,
                          changes.weight);
    }
    __syncthreads();
    d += taken;
  }
  for (int k = thread; counts_apart && k < transitions; k += kThreads) {
    if (counts[k] > 0) atomicAdd(call.counts + k, static_cast<unsigned long long>(counts[k]));
  }
}

/// The transitions from each class, a block each, and their surprisals where there is a table.
template <class Real>
__global__ void __launch_bounds__(kThreads)
    emotion_transitions_classes_kernel(const __grid_constant__ TransitionsCall call, IntegerMatrix counts) {
  const int32_t C = call.num_classes;
  for (int i = static_cast<int>(blockIdx.x); i < C; i += static_cast<int>(gridDim.x)) {
    double sum = 0;
    for (int j = static_cast<int>(threadIdx.x); j < C; j += kThreads) sum += static_cast<double>(counts.at(i, j));
    sum = sum_of_group<kThreads>(sum);
    if (threadIdx.x == 0) call.from_class[i] = sum;
    if (call.table == nullptr) continue;
    for (int j = static_cast<int>(threadIdx.x); j < C; j += kThreads) {
      static_cast<Real*>(call.table)[i * C + j] = static_cast<Real>(surprisal_of_transition(counts.at(i, j), sum, C));
    }
  }
}

/// Turns codes into surprisals, from the end on: what was written last is still in the cache.
template <class Real>
__global__ void __launch_bounds__(kThreads)
    emotion_transitions_surprisal_kernel(const __grid_constant__ TransitionsCall call, IntegerMatrix counts) {
  typedef typename CodeOf<Real>::Code Code;
  constexpr int size = 16 / sizeof(Real);
  struct alignas(16) Piece {
    Real values[size];
  };
  struct alignas(16) CodePiece {
    Code codes[size];
  };
  const Codes codes{call.num_classes};
  const auto surprisal_of = [&](Code code) {
    if (code == codes.undefined()) return nan_of<Real>();
    if (code == codes.first()) return Real(0);
    if (call.table != nullptr) return static_cast<const Real*>(call.table)[code];
    const auto number = static_cast<int32_t>(code), i = number / call.num_classes;
    const int64_t count = counts.at(i, number - i * call.num_classes);
    return static_cast<Real>(surprisal_of_transition(count, call.from_class[i], call.num_classes));
  };
  const int64_t rows = call.offsets.rows, pieces = rows / size, threads = int64_t{gridDim.x} * kThreads;
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (thread < rows - pieces * size) {
    const int64_t row = pieces * size + thread;
    static_cast<Real*>(call.surprisal)[row] = surprisal_of(static_cast<const Code*>(call.surprisal)[row]);
  }
  for (int64_t p = pieces - 1 - thread; p >= 0; p -= threads) {
    const CodePiece from = static_cast<const CodePiece*>(call.surprisal)[p];
    Piece to;
#pragma unroll
    for (int k = 0; k < size; ++k) to.values[k] = surprisal_of(from.codes[k]);
    static_cast<Piece*>(call.surprisal)[p] = to;
  }
}

template <class Real>
void launch(const TransitionsCall& call, cudaStream_t stream) {
  const int64_t C = call.num_classes, T = call.offsets.rows, D = call.offsets.dialogues;
  const auto whole = [](const Integers& integers) {
    return integers.type == IntegerType::kInt64 && integers.stride == sizeof(int64_t);
  };
  const Integers own{reinterpret_cast<const char*>(call.counts), IntegerType::kInt64, 8};
  const IntegerMatrix over = call.has_fitted ? call.fitted : IntegerMatrix{own, 8 * C};
  const auto count_classes = [&] {
    SPCL_LAUNCH(emotion_transitions_classes_kernel<Real>, grid_of(C), kThreads, 0, stream, call, over);
  };
  if (call.has_fitted) count_classes();

  const bool counts_apart = call.num_classes <= kClassesInTable;
  const int64_t shared = (call.similarity.data != nullptr ? 8 * (Tile::rows + 1) : 0) + (counts_apart ? 4 * C * C : 0);
  const unsigned grid = grid_of(max(int64_t{1}, max(parts_of(T, Tile::rows), parts_of(D, kThreads))), kBlocks);
  const auto kernel = whole(call.labels) && whole(call.speakers) ? emotion_transitions_fwd_kernel<Real, true>
                                                                 : emotion_transitions_fwd_kernel<Real, false>;
  SPCL_LAUNCH(kernel, grid, kThreads, static_cast<size_t>(shared), stream, call, parts_of(D, grid), counts_apart);

  if (!call.has_fitted) count_classes();
  if (T == 0 || (call.has_fitted && call.table != nullptr)) return;
  const int64_t tasks = parts_of(T, 16 / sizeof(Real));
  SPCL_LAUNCH(emotion_transitions_surprisal_kernel<Real>, grid_of(parts_of(tasks, kThreads)), kThreads, 0, stream, call,
              over);
}

}  // namespace
}  // namespace on_device

void emotion_transitions_cuda(const TransitionsCall& batch, void* offsets_memory, cudaStream_t stream) {
  TransitionsCall call = batch;
  if (call.offsets.rows == 0 && call.offsets.dialogues == 0) return;
  prepare_offsets_cuda(call.offsets, offsets_memory, stream);
  if (call.is_wide) {
    on_device::launch<double>(call, stream);
  } else {
    on_device::launch<float>(call, stream);
  }
}

}  // namespace spcl
