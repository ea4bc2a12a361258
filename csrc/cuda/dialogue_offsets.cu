#include "cuda/block_offsets.h"
#include "cuda/dialogue_offsets.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = DialogueOffsets::kThreads;

/// A block a chunk: a copy with each offset the largest up to it, and what the chunk is like.
__global__ void __launch_bounds__(kThreads) dialogue_offsets_fwd_kernel(DialogueOffsets offsets) {
  using Parts = int64_t[kThreads / 32];
  SPCL_SHARED(Parts, parts);
  const int64_t size = int64_t{1} << offsets.chunk_bits, begin = blockIdx.x * size;
  const int64_t end = begin + size < offsets.count() ? begin + size : offsets.count();
  int64_t largest = 0;
  bool is_faulty = false;
  for (int64_t d = begin + threadIdx.x; d < end; d += kThreads) {
    const int64_t raw = offsets.values.at(d), value = offsets.within(raw);
    is_faulty |= raw != value || (d > begin && raw < offsets.values.at(d - 1));
    largest = value > largest ? value : largest;
    offsets.cleaned[d] = value;  // right unless the chunk is faulty
  }
  is_faulty = __syncthreads_or(is_faulty);
  largest = over_block<kThreads>(largest, [](int64_t a, int64_t b) { return a > b ? a : b; });
  if (threadIdx.x == 0) {
    offsets.chunks[blockIdx.x] = {offsets.within(offsets.values.at(begin)), largest, is_faulty};
  }
  if (!is_faulty) return;
  int64_t before = 0;
  for (int64_t first = begin; first < end; first += kThreads) {
    const int64_t d = first + threadIdx.x;
    const int64_t value = running_maximum<kThreads>(d < end ? offsets.within(offsets.values.at(d)) : 0, parts);
    if (d < end) offsets.cleaned[d] = value > before ? value : before;
    for (int w = 0; w < kThreads / 32; ++w) before = parts[w] > before ? parts[w] : before;
    __syncthreads();  // the parts have been read
  }
}

}  // namespace
}  // namespace on_device

DialogueOffsets dialogue_offsets(const Integers& values, int64_t dialogues, int64_t rows) {
  DialogueOffsets offsets{values, dialogues, rows, 10, nullptr, nullptr};
  while (offsets.num_chunks() > DialogueOffsets::kThreads) ++offsets.chunk_bits;
  return offsets;
}

int64_t dialogue_offsets_bytes(const DialogueOffsets& offsets) {
  if (offsets.count() <= DialogueOffsets::kThreads) return 0;
  return offsets.num_chunks() * static_cast<int64_t>(sizeof(OffsetsChunk)) + offsets.count() * 8;
}

void prepare_offsets_cuda(DialogueOffsets& offsets, void* workspace, cudaStream_t stream) {
  if (offsets.count() <= DialogueOffsets::kThreads) return;
  offsets.chunks = static_cast<OffsetsChunk*>(workspace);
  offsets.cleaned = reinterpret_cast<int64_t*>(offsets.chunks + offsets.num_chunks());
  SPCL_LAUNCH(on_device::dialogue_offsets_fwd_kernel, static_cast<unsigned>(offsets.num_chunks()),
              DialogueOffsets::kThreads, 0, stream, offsets);
}

}  // namespace spcl
