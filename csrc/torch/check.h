#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <string>

/// Throws "op: rule (got ...)", a RuntimeError in Python, unless `condition` holds.
#define SPCL_CHECK(condition, op, rule, ...) \
  STD_TORCH_CHECK((condition), (op), ": ", (rule), " (got ", __VA_ARGS__, ")")

/// Throws where a function of torch's C interface fails: with the reason from torch 2.13 on; before, its name alone.
#if defined(STABLE_TORCH_ERROR_CODE_CHECK)
#define SPCL_TORCH_CALL(call) STABLE_TORCH_ERROR_CODE_CHECK(call)
#else  // the headers of torch 2.11 and 2.12
#define SPCL_TORCH_CALL(call) TORCH_ERROR_CODE_CHECK(call)
#endif

namespace spcl {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string shape_text(const Tensor& tensor) {
  std::string text = "[";
  for (int64_t d = 0; d < tensor.dim(); ++d) text += (d == 0 ? "" : ", ") + std::to_string(tensor.size(d));
  return text + "]";
}

/// The bytes [begin, end) a tensor can touch; begin == end when it has no element.
struct Extent {
  const char* begin;
  const char* end;

  bool overlaps(const Extent& other) const {
    return begin != end && other.begin != other.end && begin < other.end && other.begin < end;
  }
};

/// Whether a tensor lies where the kernels of this library run.
inline bool is_here(const Tensor& tensor) {
#if defined(SPCL_CUDA)
  return tensor.is_cuda();
#else
  return tensor.is_cpu();
#endif
}

/// Checks that `tensor` is a plain tensor of this library's device whose storage holds every element, and returns
/// what it covers.
/// Shapes alone promise nothing: a storage can be freed or shrunk under its tensors.
inline Extent checked_extent(const char* op, const char* name, const Tensor& tensor) {
  const std::string label(name);
#if defined(SPCL_CUDA)
  SPCL_CHECK(is_here(tensor), op, label + " must be on the GPU", "another device");
#else
  SPCL_CHECK(is_here(tensor), op, label + " must be on the CPU", "another device");
#endif
  SPCL_CHECK(tensor.layout() == torch::headeronly::Layout::Strided, op, label + " must be strided", "another layout");
  const auto itemsize = static_cast<int64_t>(tensor.element_size());
  int64_t storage_bytes = 0;
  SPCL_TORCH_CALL(aoti_torch_get_storage_size(tensor.get(), &storage_bytes));
  const auto* data = static_cast<const char*>(tensor.const_data_ptr());
  if (tensor.numel() == 0) return {data, data};
  int64_t last = 0;  // index of the element furthest from the first
  bool overflow = false;
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    int64_t reach = 0;
    SPCL_CHECK(tensor.stride(d) >= 0, op, label + " must not have negative strides", tensor.stride(d));
    overflow |= __builtin_mul_overflow(tensor.size(d) - 1, tensor.stride(d), &reach);
    overflow |= __builtin_add_overflow(last, reach, &last);
  }
  int64_t bytes = 0;
  overflow |= __builtin_add_overflow(last, 1 + tensor.storage_offset(), &bytes);
  overflow |= __builtin_mul_overflow(bytes, itemsize, &bytes);
  SPCL_CHECK(!overflow && bytes <= storage_bytes, op, label + " must lie inside its storage",
             shape_text(tensor) + " in a storage of " + std::to_string(storage_bytes) + " bytes");
  return {data, data + (last + 1) * itemsize};
}

}  // namespace spcl
