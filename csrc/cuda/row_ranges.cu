#include "cuda/reduce.h"
#include "cuda/row_bounds.h"
#include "cuda/row_ranges.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = 512;

/// Offsets of a caller are right nearly always, so that one block does for the others.
__global__ void __launch_bounds__(kThreads) row_ranges_fwd_kernel(const __grid_constant__ RowRanges ranges) {
  const int64_t count = ranges.dialogues + 1, threads = int64_t{gridDim.x} * kThreads;
  bool is_wrong = false;
  for (int64_t k = int64_t{blockIdx.x} * kThreads + threadIdx.x; k < count; k += threads) {
    const int64_t offset = ranges.offsets.at(k);
    is_wrong |= offset < 0 || offset > ranges.rows || (k > 0 && offset < ranges.offsets.at(k - 1));
  }
  if (is_wrong) atomicOr(ranges.flags, 1u);
  if (!is_last_block(ranges.flags + 1) || *ranges.flags == 0) return;
  int64_t before = 0;
  for (int64_t first = 0; first < count; first += kThreads) {
    const int64_t k = first + threadIdx.x;
    int64_t all;
    const int64_t bound = max_up_to<kThreads>(k < count ? ranges.within(k) : 0, all);
    if (k < count) ranges.mended[k] = max(before, bound);
    before = max(before, all);
    __syncthreads();
  }
}

}  // namespace
}  // namespace on_device

void look_through_ranges(const RowRanges& ranges, cudaStream_t stream) {
  if (!ranges.is_looked_through()) return;
  const unsigned grid = grid_of(parts_of(ranges.dialogues + 1, 4 * on_device::kThreads), 1024);
  SPCL_LAUNCH(on_device::row_ranges_fwd_kernel, grid, on_device::kThreads, 0, stream, ranges);
}

}  // namespace spcl
