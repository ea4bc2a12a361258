#include "cpu/multiview_hardness.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <tuple>

#include "cpu/isa.h"
#include "torch/for_parts.h"
#include "torch/hardness_call.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "multiview_hardness";
// Numbers that a thread reads at least, in whole tiles of utterances; and utterances whose parts it makes one.
constexpr int64_t kNumbers = 1 << 16, kTile = 16, kParts = 4096;

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> multiview_hardness_cpu(
    const std::vector<Tensor>& reconstruction, const std::vector<Tensor>& target, const std::vector<Tensor>& hidden,
    const std::vector<Tensor>& crossed, const Tensor& present, const std::optional<Tensor>& valid,
    const std::optional<Tensor>& scaling, int64_t mi_sign, double slope, double direct_weight,
    double information_weight) {
  isa();  // throws here, not on a worker thread
  const HardnessCall call =
      checked_hardness_call(kOp, reconstruction, target, hidden, crossed, present, valid, scaling, mi_sign);
  const int64_t utterances = call.utterances;
  Tensor hardness = new_tensor({utterances}, call.result), direct = new_tensor({utterances}, call.result);
  Tensor information = new_tensor({utterances}, call.result), ends = new_tensor({4}, ScalarType::Double);

  HardnessBatch batch{};
  batch.modalities = call.modalities;
  batch.utterances = utterances;
  batch.units = call.units;
  batch.type = call.type;
  batch.reconstruction = call.reconstruction.data();
  batch.target = call.target.empty() ? nullptr : call.target.data();
  batch.widths = call.widths.data();
  batch.hidden = call.hidden.data();
  batch.crossed = call.crossed.data();
  batch.present = call.present.data;
  batch.present_modality_stride = call.present.modality_stride;
  batch.present_stride = call.present.stride;
  batch.valid = call.valid.data;
  batch.valid_stride = call.valid.row_stride;
  batch.sign = static_cast<double>(mi_sign);
  batch.direct = direct.mutable_data_ptr();
  batch.information = information.mutable_data_ptr();

  int64_t numbers = call.units * static_cast<int64_t>(call.hidden.size() + call.crossed.size());
  for (const int64_t width : call.widths) numbers += 2 * width;
  const int64_t tiles = (utterances + kTile - 1) / kTile, grain = std::max<int64_t>(1, kNumbers / (numbers * kTile));
  HardnessBounds bounds;  // smallest and largest: in any order the same
  std::mutex mutex;
  on_torch_threads(tiles, grain, [&](int64_t begin, int64_t end) {
    constexpr std::align_val_t alignment{64};
    const auto release = [](void* memory) { ::operator delete(memory, alignment); };
    const std::unique_ptr<void, decltype(release)> work(
        ::operator new(static_cast<size_t>(hardness_work_bytes(batch)), alignment), release);
    const HardnessBounds own = hardness_parts(batch, begin * kTile, std::min(end * kTile, utterances), work.get());
    const std::lock_guard<std::mutex> lock(mutex);
    bounds.widen(own);
  });

  auto* const used = static_cast<double*>(ends.mutable_data_ptr());
  for (int64_t k = 0; k < 4; ++k) {
    const FloatRows& given = call.scaling;
    used[k] = given.data == nullptr ? bounds.ends[k] : load_as<double>(given.data + k * given.row_stride);
  }
  const int64_t itemsize = itemsize_of(call.result);
  char* const results[3] = {static_cast<char*>(batch.direct), static_cast<char*>(batch.information),
                            static_cast<char*>(hardness.mutable_data_ptr())};
  on_torch_threads(utterances, kParts, [&](int64_t begin, int64_t end) {
    const int64_t skip = begin * itemsize;
    hardness_of_parts(call.type, results[0] + skip, results[1] + skip, results[2] + skip, end - begin, used, slope,
                      direct_weight, information_weight);
  });
  return {hardness, direct, information, ends};
}

}  // namespace spcl
