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

/// Reads a T at any address: strides are in bytes, and NumPy arrays need not be aligned.
template <class T>
inline __attribute__((always_inline)) T load_as(const char* address) {
  T value;
  std::memcpy(&value, address, sizeof value);
  return value;
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
