#include <type_traits>

#include "cuda/block_offsets.h"
#include "cuda/math.h"
#include "cuda/window_coherence.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = DialogueOffsets::kThreads;
typedef BlockOffsets::Rows RowRange;

struct alignas(16) Term {
  double value;
  int64_t count;
};

/// What a window adds up, in the forward pass.
struct DefinedCoherence {
  const double* c;

  __device__ __forceinline__ Term at(int64_t row) const {
    const double value = c[row];
    const bool is_defined = value <= 1;  // neither NaN nor the Inf of a fault
    return {is_defined ? value : 0, is_defined ? 1 : 0};
  }
};

/// The same in the backward pass: c enters the means of the windows that hold it, which are those of its own window.
struct ShareOfMean {
  Numbers of_coherence;
  const int64_t* counts;

  __device__ __forceinline__ Term at(int64_t row) const {
    const int64_t count = counts[row];
    return {count > 0 ? of_coherence.at(row) / static_cast<double>(count) : 0, 0};
  }
};

/// Sums of 16, 256, ... rows of a dialogue, counted from its first row: so they are the same in every batch. A sum
/// that starts at row r is at [r / its length], which is free: two sums share no row. Those that a dialogue's end cuts
/// off do not exist.
struct Levels {
  static constexpr int64_t kRadix = 16;
  Term* sums;  // those of 16 rows, [rows / 16], then those of 256 and so on
  int count;
};

/// Sums of `length` rows, 16 times those of the level below.
template <class Terms>
__global__ void __launch_bounds__(kThreads)
    window_level_kernel(const __grid_constant__ DialogueOffsets dialogues, Terms terms, const Term* below, Term* sums,
                        int64_t length) {
  const BlockOffsets offsets(dialogues);
  const int64_t place = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (place >= dialogues.rows / length) return;
  // A sum that starts in rows [place length, (place + 1) length) holds the last of them.
  const int64_t row = place * length + length - 1;
  const RowRange dialogue = offsets.dialogue_of(row);
  const int64_t start = dialogue.first + (row - dialogue.first) / length * length;
  if (dialogue.last - start < length) return;
  const int64_t step = length / Levels::kRadix;
  Term sum{0, 0};
  for (int k = 0; k < Levels::kRadix; ++k) {
    const int64_t from = start + k * step;
    const Term term = step == 1 ? terms.at(from) : below[from / step];
    sum.value += term.value;
    sum.count += term.count;
  }
  sums[place] = sum;
}

/// The sum over rows [from, to) of the dialogue that starts at `first`, in a batch of `rows`.
template <class Terms>
__device__ __forceinline__ Term sum_over(int64_t from, int64_t to, int64_t first, int64_t rows, const Terms& terms,
                                         const Levels& levels) {
  Term sum{0, 0};
  const auto add = [&](const Term& term) {
    sum.value += term.value;
    sum.count += term.count;
  };
  if (levels.count == 0) {
    for (int64_t row = from; row < to; ++row) add(terms.at(row));
    return sum;
  }
  // Up to ever longer sums, as far as the places fit, and down again. `sums` are those of `length` rows.
  const Term* sums = nullptr;
  int level = 0;
  int64_t length = 1;
  const auto add_here = [&] {
    add(level == 0 ? terms.at(from) : sums[from / length]);
    from += length;
  };
  while (level < levels.count) {
    const int64_t longer = length * Levels::kRadix;
    while ((from - first) % longer != 0 && to - from >= length) add_here();
    if (to - from < longer) break;
    sums = level == 0 ? levels.sums : sums + rows / length;
    length = longer;
    ++level;
  }
  while (true) {
    while (to - from >= length) add_here();
    if (level == 0) return sum;
    length /= Levels::kRadix;
    --level;
    sums -= level == 0 ? 0 : rows / length;
  }
}

/// The rows of a window, cut at the borders of the dialogue.
__device__ __forceinline__ RowRange window_of(const RowRange& dialogue, int64_t row, int64_t half) {
  const int64_t first = row - dialogue.first > half ? row - half : dialogue.first;
  const int64_t last = dialogue.last - row > half + 1 ? row + half + 1 : dialogue.last;
  return {first, last};
}

template <class Real>
__global__ void __launch_bounds__(kThreads, 4)
    window_means_fwd_kernel(const __grid_constant__ DialogueOffsets dialogues, int64_t half, DefinedCoherence terms,
                            Levels levels, Real* coherence, int64_t* counts) {
  const BlockOffsets offsets(dialogues);
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= dialogues.rows) return;
  const RowRange dialogue = offsets.dialogue_of(row);
  const RowRange window = window_of(dialogue, row, half);
  const Term sum = sum_over(window.first, window.last, dialogue.first, dialogues.rows, terms, levels);
  const int64_t count = terms.c[row] == faulty_coherence() ? 0 : sum.count;
  coherence[row] = count > 0 ? static_cast<Real>(sum.value / static_cast<double>(count)) : nan_of<Real>();
  if (counts != nullptr) counts[row] = count;
}

__global__ void __launch_bounds__(kThreads, 4)
    window_means_bwd_kernel(const __grid_constant__ DialogueOffsets dialogues, int64_t half, ShareOfMean terms,
                            Levels levels, double* of_c) {
  const BlockOffsets offsets(dialogues);
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= dialogues.rows) return;
  const RowRange dialogue = offsets.dialogue_of(row);
  const RowRange window = window_of(dialogue, row, half);
  of_c[row] = sum_over(window.first, window.last, dialogue.first, dialogues.rows, terms, levels).value;
}

unsigned blocks_of(int64_t threads) { return grid_of(parts_of(threads, kThreads), INT32_MAX); }

template <class Terms>
Levels make_levels(const DialogueOffsets& dialogues, int64_t half, const Terms& terms, void* memory,
                   cudaStream_t stream) {
  Levels levels{static_cast<Term*>(memory), 0};
  if (half <= kShortHalf) return levels;
  Term *sums = levels.sums, *below = nullptr;
  // A window of 2 half + 1 rows has no room for longer sums.
  for (int64_t length = Levels::kRadix; length <= dialogues.rows && length / 2 <= half; length *= Levels::kRadix) {
    SPCL_LAUNCH(window_level_kernel<Terms>, blocks_of(dialogues.rows / length), kThreads, 0, stream, dialogues, terms,
                below, sums, length);
    below = sums;
    sums += dialogues.rows / length;
    ++levels.count;
  }
  return levels;
}

}  // namespace
}  // namespace on_device

int64_t window_bytes(int64_t rows, int64_t half) {
  if (half <= kShortHalf) return 0;
  return rows / (on_device::Levels::kRadix - 1) * static_cast<int64_t>(sizeof(on_device::Term));
}

void window_means_cuda(const DialogueOffsets& dialogues, int64_t half, const double* c, FloatType type, void* coherence,
                       int64_t* counts, void* memory, cudaStream_t stream) {
  using namespace on_device;
  if (dialogues.rows == 0) return;
  const DefinedCoherence terms{c};
  const Levels levels = make_levels(dialogues, half, terms, memory, stream);
  const auto launch = [&](auto* result) {
    SPCL_LAUNCH(window_means_fwd_kernel<std::remove_pointer_t<decltype(result)>>, blocks_of(dialogues.rows), kThreads,
                0, stream, dialogues, half, terms, levels, result, counts);
  };
  if (type == FloatType::kFloat64) {
    launch(static_cast<double*>(coherence));
  } else {
    launch(static_cast<float*>(coherence));
  }
}

void window_means_backward_cuda(const DialogueOffsets& dialogues, int64_t half, const Numbers& of_coherence,
                                const int64_t* counts, double* of_c, void* memory, cudaStream_t stream) {
  using namespace on_device;
  if (dialogues.rows == 0) return;
  const ShareOfMean terms{of_coherence, counts};
  const Levels levels = make_levels(dialogues, half, terms, memory, stream);
  SPCL_LAUNCH(window_means_bwd_kernel, blocks_of(dialogues.rows), kThreads, 0, stream, dialogues, half, terms, levels,
              of_c);
}

}  // namespace spcl
