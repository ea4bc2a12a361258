#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "torch/check.h"

namespace spcl {

/// A contiguous CPU tensor of at most two dimensions, of float32, float64 or int64, uninitialised.
///
/// Made by the entry point that compiled models use: a third of a microsecond less than through the dispatcher, for
/// each of nine results. It does not see torch's deterministic mode, which fills such memory with NaN; the sanitizer
/// build does that instead.
inline Tensor new_tensor(std::initializer_list<int64_t> shape, ScalarType type) {
  int64_t strides[2] = {1, 1};
  if (shape.size() == 2) strides[0] = shape.begin()[1];
  int32_t dtype = aoti_torch_dtype_float32();
  if (type == ScalarType::Double) dtype = aoti_torch_dtype_float64();
  if (type == ScalarType::Long) dtype = aoti_torch_dtype_int64();
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()), shape.begin(), strides,
                                                         dtype, aoti_torch_device_type_cpu(), 0, &handle));
  Tensor tensor(handle);
#if defined(SPCL_POISON)
  const auto bytes = static_cast<size_t>(tensor.numel()) * static_cast<size_t>(tensor.element_size());
  if (bytes > 0) std::memset(tensor.mutable_data_ptr(), 0xFF, bytes);  // NaN, or -1
#endif
  return tensor;
}

}  // namespace spcl
