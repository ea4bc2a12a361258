#pragma once

// The inputs of a kernel, as its parameters carry them.

#include "cpu/self_paced_weights.h"
#include "cuda/dtypes.h"

namespace spcl {

/// Separate tensors that a call may have; more are one tensor [M, T, C].
inline constexpr int kMostSources = 32;

/// Where the rows of each modality are: one tensor [M, T, C], or up to kMostSources of [T, C]. Strides in bytes.
struct Sources {
  struct Source {
    const char* data;
    int64_t row_stride, class_stride;
  };
  int64_t modalities, rows, columns;
  int64_t modality_stride;  // of a stacked tensor
  FloatType type;
  int count;
  Source sources[kMostSources];

  SPCL_HD Source modality(int64_t m) const {
    Source source = sources[count == 1 ? 0 : m];
    source.data += m * modality_stride;
    return source;
  }
};

/// Labels, speakers or offsets [size]; the stride in bytes.
struct Integers {
  const char* data;
  IntegerType type;
  int64_t stride;

  __device__ __forceinline__ int64_t at(int64_t index) const {
    return on_device::load_whole(type, data + index * stride);
  }
};

/// Labels, and which of them name a class.
struct Labels {
  Integers values;
  int64_t ignore_index, num_classes;

  /// The class of a row, or -1; `is_bad`: what is there is neither a class nor `ignore_index`.
  __device__ __forceinline__ int32_t class_of(int64_t row, bool& is_bad) const {
    const int64_t label = values.at(row);
    const bool names_class = label >= 0 && label < num_classes;
    is_bad = !names_class && label != ignore_index;
    return names_class && label != ignore_index ? static_cast<int32_t>(label) : -1;
  }
};

/// bool [M, T]; strides in bytes. No data: every modality is present.
struct Present {
  const char* data;
  int64_t modality_stride, row_stride;

  __device__ __forceinline__ bool at(int64_t m, int64_t row) const {
    return data == nullptr || data[m * modality_stride + row * row_stride] != 0;
  }
};

/// An optional array [size] of floating point numbers; the stride in bytes.
struct Numbers {
  const char* data;
  FloatType type;
  int64_t stride;

  __device__ __forceinline__ double at(int64_t index) const {
    return on_device::load_number(type, data + index * stride);
  }
};

/// A scheme and where its threshold is: a number, or one of any floating point type on the device.
struct DeviceWeighting {
  Scheme scheme;
  double parameter;
  double number;
  Numbers on_device;  // no data: `number` counts

  __device__ __forceinline__ double threshold() const { return on_device.data == nullptr ? number : on_device.at(0); }
};

}  // namespace spcl
