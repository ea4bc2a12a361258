#include "cuda/dialogues.h"
#include "cuda/offsets.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = 256;

/// What the blocks tell the last of them: whether an offset falls, and how many are done.
struct Progress {
  unsigned falls, ticket;
};

/// Copies the offsets, each within [0, rows]. Only where one falls does the last block take their running maximum.
__global__ void __launch_bounds__(kThreads)
    clean_offsets_kernel(Dialogues dialogues, int64_t* clean, Progress* progress) {
  const int64_t threads = int64_t{gridDim.x} * kThreads, entries = dialogues.entries;
  bool falls = false;
  for (int64_t k = int64_t{blockIdx.x} * kThreads + threadIdx.x; k < entries; k += threads) {
    const int64_t offset = clamped_offset(dialogues, k);
    clean[k] = offset;
    falls |= k > 0 && clamped_offset(dialogues, k - 1) > offset;
  }
  if (falls) atomicOr(&progress->falls, 1u);
  if (!is_last_block(&progress->ticket) || progress->falls == 0) return;

  SPCL_SHARED(int64_t, carried);
  int64_t before = 0;
  for (int64_t first = 0; first < entries; first += kThreads) {
    const int64_t k = first + threadIdx.x;
    int64_t offset = k < entries ? clean[k] : 0;
    offset = running_maximum<kThreads>(offset > before ? offset : before);
    if (k < entries) clean[k] = offset;
    if (threadIdx.x == kThreads - 1) carried = offset;
    __syncthreads();
    before = carried;
  }
}

}  // namespace
}  // namespace on_device

Dialogues clean_offsets_cuda(const Integers& offsets, int64_t entries, int64_t rows, void* memory,
                             cudaStream_t stream) {
  Dialogues dialogues{offsets, entries, rows, nullptr};
  if (entries <= kFewOffsets) return dialogues;
  auto* const clean = static_cast<int64_t*>(memory);
  auto* const progress = reinterpret_cast<on_device::Progress*>(clean + entries);
  SPCL_LAUNCH(on_device::clean_offsets_kernel, grid_of(parts_of(entries, on_device::kThreads), 1 << 10),
              on_device::kThreads, 0, stream, dialogues, clean, progress);
  dialogues.clean = clean;
  return dialogues;
}

}  // namespace spcl
