#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <cstring>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "cuda/inputs.h"
#include "torch/inputs.h"
#include "torch/new_tensor.h"

namespace spcl {

/// The device and the stream of a call, the device current as long as this lives. Every tensor has to be there.
class DeviceCall {
 public:
  DeviceCall(const char* op, const Tensor& first) : op_(op), index_(first.get_device_index()), guard_(index_) {
#if !defined(SPCL_CUDA_ON_CPU)
    void* stream = nullptr;
    SPCL_TORCH_CALL(aoti_torch_get_current_cuda_stream(index_, &stream));
    stream_ = static_cast<cudaStream_t>(stream);
#endif
  }

  cudaStream_t stream() const { return stream_; }

  void require(const char* name, const Tensor& tensor) const {
    SPCL_CHECK(is_here(tensor) && tensor.get_device_index() == index_, op_, "all tensors must be on one device",
               std::string(name) + " on another");
  }
  void require(const char* name, const std::optional<Tensor>& tensor) const {
    if (tensor) require(name, *tensor);
  }
  void require(const char* name, const std::vector<Tensor>& tensors) const {
    for (const Tensor& tensor : tensors) require(name, tensor);
  }

  /// A contiguous tensor on the device, uninitialised, from torch's caching allocator.
  Tensor empty(std::initializer_list<int64_t> shape, ScalarType type) const {
#if defined(SPCL_CUDA_ON_CPU)
    return new_tensor(shape, type);
#else
    return new_tensor(shape, type, aoti_torch_device_type_cuda(), index_);
#endif
  }

  /// `bytes` of memory for the kernels of this call; what runs on the stream later may take it over.
  Tensor workspace(int64_t bytes) const { return empty({(bytes + 7) / 8}, ScalarType::Long); }

  /// Sets memory to 0 bytes, on the stream.
  void zero(void* data, int64_t bytes) const {
    if (bytes == 0) return;
#if defined(SPCL_CUDA_ON_CPU)
    std::memset(data, 0, static_cast<size_t>(bytes));
#else
    check(cudaMemsetAsync(data, 0, static_cast<size_t>(bytes), stream_));
#endif
  }

  /// After the launches of a call: an error if one was refused.
  void check_launches() const {
#if !defined(SPCL_CUDA_ON_CPU)
    check(cudaGetLastError());
#endif
  }

 private:
#if !defined(SPCL_CUDA_ON_CPU)
  void check(cudaError_t error) const {
    if (error != cudaSuccess) cudaGetLastError();  // so that no later call takes it for its own
    SPCL_CHECK(error == cudaSuccess, op_, "a CUDA kernel could not be launched", cudaGetErrorString(error));
  }
#endif

  const char* op_;
  int32_t index_;
#if defined(SPCL_CUDA_ON_CPU)
  struct NoGuard {
    explicit NoGuard(int32_t) {}
  } guard_;
#else
  torch::stable::accelerator::DeviceGuard guard_;
#endif
  cudaStream_t stream_ = nullptr;
};

/// The rows of a call as a kernel takes them. `op` and `name` are for the error of too many separate tensors.
inline Sources sources_of(const char* op, const char* name, const RowsInput& input) {
  SPCL_CHECK(input.sources.size() <= static_cast<size_t>(kMostSources), op,
             std::string(name) + " on a GPU must be one tensor or at most " + std::to_string(kMostSources),
             input.sources.size());
  Sources sources{};
  sources.modalities = input.modalities;
  sources.rows = input.utterances;
  sources.columns = input.columns;
  sources.modality_stride = input.sources.size() == 1 ? input.modality_stride : 0;
  sources.type = input.type;
  sources.count = static_cast<int>(input.sources.size());
  for (size_t k = 0; k < input.sources.size(); ++k) {
    const FloatRows& rows = input.sources[k];
    sources.sources[k] = {rows.data, rows.row_stride, rows.class_stride};
  }
  return sources;
}

inline Integers integers_of(const IntegersInput& input) { return {input.data, input.type, input.stride}; }

inline Labels labels_of(const IntegersInput& input, int64_t ignore_index, int64_t num_classes) {
  return {integers_of(input), ignore_index, num_classes};
}

inline Present present_of(const PresentInput& input) { return {input.data, input.modality_stride, input.stride}; }

/// Offsets [D + 1] with at least one entry, whatever they hold.
inline Integers offsets_of(const char* op, const Tensor& offsets) {
  SPCL_CHECK(offsets.dim() == 1, op, "offsets must be [D + 1]", shape_text(offsets));
  SPCL_CHECK(offsets.size(0) >= 1, op, "offsets must have at least one entry", "none");
  return integers_of(checked_integers(op, "offsets", offsets, offsets.size(0)));
}

/// An optional array [size] of floating point numbers.
inline Numbers numbers_of(const char* op, const char* name, const std::optional<Tensor>& tensor, int64_t size) {
  if (!tensor) return {nullptr, FloatType::kFloat32, 0};
  const FloatRows rows = checked_floats(op, name, *tensor, {size});
  return {rows.data, rows.type, rows.row_stride};
}

}  // namespace spcl
