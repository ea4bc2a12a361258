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

/// Counts the digits of a thread's keys in a table of the block, equal neighbours together: additions to one address
/// wait for one another, and where difficulties repeat there is nearly nothing to add. Without branches.
template <class Keys>
class DigitCounter {
 public:
  typedef typename Keys::Key Key;

  /// Of the keys of a range. The count of bucket b is table[b * step].
  __device__ __forceinline__ DigitCounter(Digit digit, KeyRange<Key> range, unsigned* table, int step)
      : shift_(digit.shift), step_(step), first_(range.first), width_(range.width), table_(table), current_(table) {}

  __device__ __forceinline__ void add(Key key) {
    const Key offset = key - first_;
    unsigned* count = table_ + static_cast<unsigned>(offset >> shift_) * step_;
    const bool is_counted = offset <= width_, is_another = is_counted && count != current_;
    if (is_another) atomicAdd(current_, times_);
    current_ = is_another ? count : current_;
    times_ = is_another ? 1 : times_ + (is_counted ? 1 : 0);
  }

  __device__ __forceinline__ void flush() { atomicAdd(current_, times_); }

 private:
  int shift_, step_;
  Key first_, width_;
  unsigned *table_, *current_;
  unsigned times_ = 0;
};

}  // namespace on_device
}  // namespace spcl
