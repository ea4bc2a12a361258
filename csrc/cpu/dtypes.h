#pragma once

#include <cstdint>
#include <cstring>

namespace spcl {

/// What a kernel reads as logits. Halves travel as their bits.
enum class FloatType { kFloat16, kBFloat16, kFloat32, kFloat64 };

/// What a kernel reads as labels.
enum class IntegerType { kInt8, kInt16, kInt32, kInt64, kUInt8, kUInt16, kUInt32, kUInt64 };

struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

/// One [T, C] array of numbers, or [T] with one class. Strides are in bytes, of any sign, and zero is allowed.
struct FloatRows {
  const char* data;  // nullptr: there is none
  FloatType type;
  int64_t row_stride, class_stride;
};

/// Reads a T at any address: strides are in bytes, and NumPy arrays need not be aligned.
template <class T>
inline __attribute__((always_inline)) T load_as(const char* address) {
  T value;
  std::memcpy(&value, address, sizeof value);
  return value;
}

/// Float16 or BFloat16 bits as the float32 of the same value.
inline __attribute__((always_inline)) float widen_bits(BFloat16 value) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(value.bits) << 16);
}
inline __attribute__((always_inline)) float widen_bits(Float16 value) {
  // The exponent's bias moves from 15 to 127 by a product, which makes subnormals right too.
  const uint32_t magnitude = static_cast<uint32_t>(value.bits & 0x7FFF) << 13;
  const float finite = __builtin_bit_cast(float, magnitude) * 0x1p112f;
  const uint32_t special = magnitude >= 0x0F800000 ? 0x7F800000 : 0;  // Inf and NaN keep their mantissa
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, finite) | special | sign);
}

/// A float32 rounded to the nearest BFloat16 or Float16, ties to even; NaN stays NaN, what is too large becomes Inf.
template <class To>
To narrow_bits(float value);

template <>
inline __attribute__((always_inline)) BFloat16 narrow_bits<BFloat16>(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);
  return {static_cast<uint16_t>(value == value ? rounded >> 16 : 0x7FC0)};
}

template <>
inline __attribute__((always_inline)) Float16 narrow_bits<Float16>(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  // The exponent's bias moves from 127 to 15. A sum with 0.5 leaves the bits a subnormal keeps, rounded.
  const uint32_t normal = (magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13;
  const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
  const uint32_t subnormal = __builtin_bit_cast(uint32_t, shifted) - 0x3F000000;
  const uint32_t finite = magnitude < 0x38800000 ? subnormal : normal;
  const uint32_t special = magnitude > 0x7F800000 ? 0x7E00 : 0x7C00;
  const uint32_t rounded = magnitude >= 0x47800000 ? special : finite;
  return {static_cast<uint16_t>(rounded | (bits >> 16 & 0x8000))};
}
/// The number at `address`, of type `type`.
inline double load_float(FloatType type, const char* address) {
  switch (type) {
    case FloatType::kFloat16:
      return widen_bits(load_as<Float16>(address));
    case FloatType::kBFloat16:
      return widen_bits(load_as<BFloat16>(address));
    case FloatType::kFloat32:
      return load_as<float>(address);
    case FloatType::kFloat64:
      return load_as<double>(address);
  }
  __builtin_unreachable();
}

/// Integer `index` of an array of type `type`. Unsigned values past 2^63 turn negative: no label is either.
inline int64_t load_integer(IntegerType type, const char* address) {
  switch (type) {
    case IntegerType::kInt8:
      return load_as<int8_t>(address);
    case IntegerType::kInt16:
      return load_as<int16_t>(address);
    case IntegerType::kInt32:
      return load_as<int32_t>(address);
    case IntegerType::kInt64:
      return load_as<int64_t>(address);
    case IntegerType::kUInt8:
      return load_as<uint8_t>(address);
    case IntegerType::kUInt16:
      return load_as<uint16_t>(address);
    case IntegerType::kUInt32:
      return load_as<uint32_t>(address);
    case IntegerType::kUInt64:
      return static_cast<int64_t>(load_as<uint64_t>(address));
  }
  __builtin_unreachable();
}

}  // namespace spcl
