#pragma once

// Unsigned integers in the order of floating point numbers, or of signed integers: what order statistics are found
// with.

#include <cstdint>
#include <type_traits>

#include "math/portable.h"

namespace spcl {

/// Keys of one format. `Bits` is the number as stored, read as a signed integer; `infinity` is its +Inf.
///
/// -Inf has the key 0, +Inf the key `largest`, -0 and +0 the same one between them, and every NaN one above `largest`.
template <class BitsType, class KeyType, KeyType infinity>
struct FloatKeys {
  typedef BitsType Bits;
  typedef KeyType Key;
  typedef std::make_signed_t<Key> SignedKey;
  static constexpr Key largest = 2 * infinity;
  static constexpr Key nan = ~Key{};

  /// `bits` widened to the size of a key, sign included: one number, or a vector of them.
  template <class Unsigned, class Signed>
  SPCL_HD static Unsigned key(Signed bits) {
    const Signed negative = bits >> (8 * sizeof(Key) - 1);  // -1 or 0
    const Signed magnitude = bits & static_cast<SignedKey>(sign - 1);
    return (Unsigned)((magnitude ^ negative) - negative) + infinity;
  }

  /// The number as stored: +0 for zero, a quiet NaN for a key above `largest`.
  SPCL_HD static Bits bits(Key key) {
    if (key > largest) return static_cast<Bits>(infinity | (infinity & (~infinity + 1)) >> 1);
    return static_cast<Bits>(key >= infinity ? key - infinity : sign | (infinity - key));
  }

 private:
  static constexpr Key sign = Key{1} << (8 * sizeof(Bits) - 1);
};

typedef FloatKeys<int16_t, uint32_t, 0x7C00> Float16Keys;
typedef FloatKeys<int16_t, uint32_t, 0x7F80> BFloat16Keys;
typedef FloatKeys<int32_t, uint32_t, 0x7F800000> Float32Keys;
typedef FloatKeys<int64_t, uint64_t, 0x7FF0000000000000> Float64Keys;

/// Keys of integers; the largest one, 2^63 - 1, stands for none, as NaN does among numbers.
struct Int64Keys {
  typedef int64_t Bits;
  typedef uint64_t Key;
  typedef int64_t SignedKey;
  static constexpr Key largest = ~Key{} - 1;
  static constexpr Key nan = ~Key{};

  template <class Unsigned, class Signed>
  SPCL_HD static Unsigned key(Signed bits) {
    return (Unsigned)bits ^ sign;
  }

  SPCL_HD static Bits bits(Key key) { return static_cast<Bits>(key ^ sign); }

 private:
  static constexpr Key sign = Key{1} << 63;
};

}  // namespace spcl
