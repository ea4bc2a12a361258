#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "torch/check.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace spcl {

/// Asks for large pages where a result is large: the kernel then maps 2 MB at a time, and not every 4 KB, which takes
/// as long as computing what is written there. No more than a request, for whole pages of the result alone.
inline void use_large_pages([[maybe_unused]] char* data, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr int64_t worth_it = 4 << 20;
  if (bytes < worth_it) return;
  static const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t skip = -reinterpret_cast<intptr_t>(data) & (page - 1);
  madvise(data + skip, static_cast<size_t>((bytes - skip) & ~(page - 1)), MADV_HUGEPAGE);
#endif
}

/// A contiguous tensor of at most three dimensions, of a floating point type, int64 or bool, uninitialised.
///
/// Made by the entry point that compiled models use: a third of a microsecond less than through the dispatcher, for
/// each of nine results. It does not see torch's deterministic mode, which fills such memory with NaN; the sanitizer
/// build does that instead.
inline Tensor new_tensor(std::initializer_list<int64_t> shape, ScalarType type, int32_t device_type,
                         int32_t device_index) {
  int64_t strides[3] = {1, 1, 1};
  const auto dim = static_cast<int64_t>(shape.size());
  for (int64_t d = dim - 2; d >= 0; --d) strides[d] = strides[d + 1] * shape.begin()[d + 1];
  int32_t dtype = aoti_torch_dtype_float32();
  if (type == ScalarType::Double) dtype = aoti_torch_dtype_float64();
  if (type == ScalarType::Long) dtype = aoti_torch_dtype_int64();
  if (type == ScalarType::Bool) dtype = aoti_torch_dtype_bool();
  if (type == ScalarType::Half) dtype = aoti_torch_dtype_float16();
  if (type == ScalarType::BFloat16) dtype = aoti_torch_dtype_bfloat16();
  AtenTensorHandle handle = nullptr;
  SPCL_TORCH_CALL(aoti_torch_empty_strided(dim, shape.begin(), strides, dtype, device_type, device_index, &handle));
  return Tensor(handle);
}

/// The same on the CPU.
inline Tensor new_tensor(std::initializer_list<int64_t> shape, ScalarType type) {
  Tensor tensor = new_tensor(shape, type, aoti_torch_device_type_cpu(), 0);
  const int64_t bytes = tensor.numel() * static_cast<int64_t>(tensor.element_size());
  if (bytes > 0) use_large_pages(static_cast<char*>(tensor.mutable_data_ptr()), bytes);
#if defined(SPCL_POISON)
  if (bytes > 0) std::memset(tensor.mutable_data_ptr(), 0xFF, static_cast<size_t>(bytes));  // NaN, or -1
#endif
  return tensor;
}

}  // namespace spcl
