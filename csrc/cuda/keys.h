#pragma once

// The keys of stored numbers, 16 bytes of them at a time, and how often their digits come.

#include "cuda/math.h"
#include "cuda/order_statistic.h"

namespace spcl {
namespace on_device {

template <class Stored>
struct KeysOf;
template <>
struct KeysOf<Float16> {
  typedef Float16Keys Keys;
};
template <>
struct KeysOf<BFloat16> {
  typedef BFloat16Keys Keys;
};
template <>
struct KeysOf<float> {
  typedef Float32Keys Keys;
};
template <>
struct KeysOf<double> {
  typedef Float64Keys Keys;
};

template <class Keys>
__device__ __forceinline__ typename Keys::Key key_of(typename Keys::Bits bits) {
  return Keys::template key<typename Keys::Key>(static_cast<typename Keys::SignedKey>(bits));
}

template <class Keys>
__device__ __forceinline__ typename Keys::Key key_at(const Numbers& values, int64_t index) {
  return key_of<Keys>(*reinterpret_cast<const typename Keys::Bits*>(values.data + index * values.stride));
}

/// Neighbouring numbers, 16 bytes of them.
template <class Keys>
struct alignas(16) KeyPiece {
  static constexpr int size = 16 / sizeof(typename Keys::Bits);
  typename Keys::Bits values[size];
};

/// Whether pieces can be loaded as they lie.
template <class Keys>
bool has_pieces(const Numbers& values) {
  return values.stride == sizeof(typename Keys::Bits) && reinterpret_cast<uintptr_t>(values.data) % 16 == 0;
}

/// The keys of the piece that begins with value `index`, NaN from `end` on. `pieces`: see has_pieces.
template <class Keys>
__device__ __forceinline__ void read_keys(const Numbers& values, bool pieces, int64_t index, int64_t end,
                                          typename Keys::Key* keys) {
  constexpr int size = KeyPiece<Keys>::size;
  if (pieces && index + size <= end) {
    const auto piece = *reinterpret_cast<const KeyPiece<Keys>*>(values.data + index * values.stride);
#pragma unroll
    for (int k = 0; k < size; ++k) keys[k] = key_of<Keys>(piece.values[k]);
  } else {
#pragma unroll
    for (int k = 0; k < size; ++k) keys[k] = index + k < end ? key_at<Keys>(values, index + k) : Keys::nan;
  }
}

/// One digit of a key, below those that are found.
struct Digit {
  int shift, bits;

  /// Digit `pass` of keys of `width` bits, the highest first.
  SPCL_HD static constexpr Digit of(int width, int pass) {
    const int above = width - kDigitBits * pass;
    return above > kDigitBits ? Digit{above - kDigitBits, kDigitBits} : Digit{0, above};
  }
};

/// The bits that the keys of a format need.
template <class Keys>
inline constexpr int kKeyBits = 8 * sizeof(typename Keys::Bits);
template <class Keys>
inline constexpr int kDigits = (kKeyBits<Keys> + kDigitBits - 1) / kDigitBits;

/// Counts the digits of a thread's keys in a table of the block, equal neighbours together: additions to one address
/// wait for one another, and where difficulties repeat there is nearly nothing to add.
template <class Keys>
class DigitCounter {
 public:
  typedef typename Keys::Key Key;

  /// `found`: the digits above. The count of bucket b is table[b * step].
  __device__ DigitCounter(Digit digit, Key found, unsigned* table, int step)
      : digit_(digit), found_(found), table_(table), step_(step) {}

  template <bool is_first>
  __device__ __forceinline__ void add(Key key) {
    const Key digits = key >> digit_.shift;
    if (key > Keys::largest) return;  // NaN
    if (!is_first && digits >> digit_.bits != found_) return;
    const unsigned bucket = static_cast<unsigned>(digits) & ((1u << digit_.bits) - 1);
    if (bucket != bucket_) {
      flush();
      bucket_ = bucket;
      times_ = 0;
    }
    ++times_;
  }

  __device__ __forceinline__ void flush() {
    if (times_ > 0) atomicAdd(table_ + bucket_ * step_, times_);
  }

 private:
  Digit digit_;
  Key found_;
  unsigned* table_;
  int step_;
  unsigned bucket_ = 0, times_ = 0;
};

}  // namespace on_device
}  // namespace spcl
