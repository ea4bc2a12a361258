#pragma once

// The digits of keys (math/float_keys.h), from the highest: what a radix select decides one after the other.

#include <cstdint>

#include "math/portable.h"

namespace spcl {

/// A digit has up to 11 bits: as many counts as a block of a GPU has room for, and few passes.
inline constexpr int kDigitBits = 11;
inline constexpr int kBuckets = 1 << kDigitBits;

/// One digit of a key, below those that are found.
struct Digit {
  int shift, bits;

  /// Digit `level` of keys of `width` bits, the highest first.
  SPCL_HD static constexpr Digit of(int width, int level) {
    const int above = width - kDigitBits * level;
    return above > kDigitBits ? Digit{above - kDigitBits, kDigitBits} : Digit{0, above};
  }
};

/// How many digits keys of `width` bits have.
SPCL_HD constexpr int digits_of(int width) { return (width + kDigitBits - 1) / kDigitBits; }

/// The bits that the keys of a format need.
template <class Keys>
inline constexpr int kKeyBits = 8 * sizeof(typename Keys::Bits);
template <class Keys>
inline constexpr int kDigits = digits_of(kKeyBits<Keys>);

/// Neighbouring keys: `first` and the `width` that come after it.
template <class Key>
struct KeyRange {
  Key first, width;
  bool is_empty;
};

/// The keys, none of them NaN, whose digits above one are `prefix`, read as one number.
template <class Keys>
SPCL_HD KeyRange<typename Keys::Key> keys_below(uint64_t prefix, Digit digit) {
  typedef typename Keys::Key Key;
  const int below = digit.shift + digit.bits;
  if (below == kKeyBits<Keys>) return {0, Keys::largest, prefix != 0};
  const Key first = static_cast<Key>(prefix) << below, all = (Key{1} << below) - 1;
  const Key last = static_cast<Key>(Keys::largest - first);
  return {first, last < all ? last : all, prefix > Keys::largest >> below};
}

}  // namespace spcl
