#pragma once

// Reading and writing numbers of every type. Torch's tensors are aligned to their elements.

#include "cpu/dtypes.h"
#include "cuda/launch.h"

namespace spcl {
namespace on_device {

/// The type a stored number is computed in.
template <class Stored>
struct Computed {
  typedef float Real;
};
template <>
struct Computed<double> {
  typedef double Real;
};

__device__ __forceinline__ float widened(float value) { return value; }
__device__ __forceinline__ double widened(double value) { return value; }
__device__ __forceinline__ float widened(BFloat16 value) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
#else
  return widen_bits(value);
#endif
}
__device__ __forceinline__ float widened(Float16 value) {
#if defined(__CUDA_ARCH__)
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
#else
  return widen_bits(value);
#endif
}

/// `value` rounded to a stored number, ties to even.
template <class Stored, class Real>
__device__ __forceinline__ Stored narrowed(Real value) {
  return static_cast<Stored>(value);
}
template <>
__device__ __forceinline__ BFloat16 narrowed<BFloat16, float>(float value) {
#if defined(__CUDA_ARCH__)
  BFloat16 narrow;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
#else
  return narrow_bits<BFloat16>(value);
#endif
}
template <>
__device__ __forceinline__ Float16 narrowed<Float16, float>(float value) {
#if defined(__CUDA_ARCH__)
  Float16 narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
#else
  return narrow_bits<Float16>(value);
#endif
}

// A float64 is rounded to float32 between: two roundings, which torch's own conversion has too.
template <>
__device__ __forceinline__ BFloat16 narrowed<BFloat16, double>(double value) {
  return narrowed<BFloat16>(static_cast<float>(value));
}
template <>
__device__ __forceinline__ Float16 narrowed<Float16, double>(double value) {
  return narrowed<Float16>(static_cast<float>(value));
}

template <class Stored>
__device__ __forceinline__ typename Computed<Stored>::Real load(const char* address) {
  return widened(*reinterpret_cast<const Stored*>(address));
}

/// The number at `address`, of a type that is not known before. For what is read once in a row, not in a loop.
__device__ __forceinline__ double load_number(FloatType type, const char* address) {
  switch (type) {
    case FloatType::kFloat16:
      return load<Float16>(address);
    case FloatType::kBFloat16:
      return load<BFloat16>(address);
    case FloatType::kFloat32:
      return load<float>(address);
    case FloatType::kFloat64:
      return load<double>(address);
  }
  return 0;
}

/// The integer at `address`. Unsigned values past 2^63 turn negative: no label is either.
__device__ __forceinline__ int64_t load_whole(IntegerType type, const char* address) {
  switch (type) {
    case IntegerType::kInt8:
      return *reinterpret_cast<const int8_t*>(address);
    case IntegerType::kInt16:
      return *reinterpret_cast<const int16_t*>(address);
    case IntegerType::kInt32:
      return *reinterpret_cast<const int32_t*>(address);
    case IntegerType::kInt64:
    case IntegerType::kUInt64:
      return *reinterpret_cast<const int64_t*>(address);
    case IntegerType::kUInt8:
      return *reinterpret_cast<const uint8_t*>(address);
    case IntegerType::kUInt16:
      return *reinterpret_cast<const uint16_t*>(address);
    case IntegerType::kUInt32:
      return *reinterpret_cast<const uint32_t*>(address);
  }
  return 0;
}

}  // namespace on_device

/// Calls `body` with a null pointer to the type that `type` names.
template <class Body>
void with_float_type(FloatType type, const Body& body) {
  switch (type) {
    case FloatType::kFloat16:
      return body(static_cast<Float16*>(nullptr));
    case FloatType::kBFloat16:
      return body(static_cast<BFloat16*>(nullptr));
    case FloatType::kFloat32:
      return body(static_cast<float*>(nullptr));
    case FloatType::kFloat64:
      return body(static_cast<double*>(nullptr));
  }
}

}  // namespace spcl
