#include "cuda/block_offsets.h"
#include "cuda/modality_spread.h"
#include "cuda/spread_sums.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = DialogueOffsets::kThreads, kWarps = kThreads / 32;
/// Dialogues a block takes at a time: two for each warp.
constexpr int kDialogues = 2 * kWarps;

template <class Stored>
__global__ void __launch_bounds__(kThreads, 2) modality_spread_fwd_kernel(const __grid_constant__ SpreadCall call) {
  typedef typename Computed<Stored>::Real Real;
  SPCL_DYNAMIC_SHARED(char, memory);
  const BlockOffsets offsets(call.offsets);
  const SpreadSlots slots{memory, 2, call.modalities};
  const bool can_be_missing = call.present.data != nullptr;
  const auto at = [&](int64_t m, int64_t row) {
    const char* address = call.confidence.data + m * call.confidence.row_stride + row * call.confidence.class_stride;
    return load<Stored>(address);
  };
  // It has a modality, and none of those it has is NaN.
  const auto is_scored = [&](int64_t row) {
    bool has_any = false, has_nan = false;
    for (int64_t m = 0; m < call.modalities; ++m) {
      if (!call.present.at(m, row)) continue;
      const Real p = at(m, row);
      has_any = true;
      has_nan |= p != p;
    }
    return has_any && !has_nan;
  };
  const int64_t dialogues = call.offsets.dialogues;
  for (int64_t first = int64_t{blockIdx.x} * kDialogues; first < dialogues; first += int64_t{gridDim.x} * kDialogues) {
    const int count = static_cast<int>(dialogues - first < kDialogues ? dialogues - first : kDialogues);
    spread_dialogues<Real, kWarps>(
        slots, count, can_be_missing, call.of_means,
        [&](int j, int64_t& begin, int64_t& end) {
          begin = offsets.at(first + j);
          end = offsets.at(first + j + 1);
        },
        [&](int64_t m, int64_t row) { return call.present.at(m, row) && is_scored(row) ? at(m, row) : nan_of<Real>(); },
        is_scored,
        [&](int j, int64_t, int64_t, int part, Real spread) {
          if (part == 0) static_cast<Real*>(call.spread)[first + j] = spread;
        });
  }
}

}  // namespace
}  // namespace on_device

int64_t modality_spread_bytes(const SpreadCall& call) { return dialogue_offsets_bytes(call.offsets); }

void modality_spread_cuda(const SpreadCall& batch, void* workspace, cudaStream_t stream) {
  SpreadCall call = batch;
  if (call.offsets.dialogues == 0) return;
  prepare_offsets_cuda(call.offsets, workspace, stream);
  const unsigned blocks = grid_of(parts_of(call.offsets.dialogues, on_device::kDialogues));
  const int64_t shared = on_device::SpreadSlots::bytes(on_device::kWarps, 2, call.modalities);
  with_float_type(call.type, [&]<class Stored>(Stored*) {
    SPCL_LAUNCH(on_device::modality_spread_fwd_kernel<Stored>, blocks, on_device::kThreads, static_cast<size_t>(shared),
                stream, call);
  });
}

}  // namespace spcl
