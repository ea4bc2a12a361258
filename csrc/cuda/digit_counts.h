#pragma once

// How often each digit comes among the keys of all blocks: one pass of a radix select.

#include "cuda/keys.h"

namespace spcl {
namespace on_device {

inline constexpr int kCountingThreads = 512;
inline constexpr int kCountingLoads = 4;   // of a thread at once
inline constexpr int kCountingTables = 4;  // of a block: lanes that count the same digit rarely add to one address

/// The grid of a pass: each block adds its counts to those of all, so there are not too many.
template <class Keys>
unsigned counting_grid(int64_t count) {
  return grid_of(parts_of(count, KeyPiece<Keys>::size * kCountingLoads * kCountingThreads), 1056);
}

/// Adds to `histogram` how many of the values have each digit, among the keys of a range. Every thread of every block
/// takes part, kCountingThreads of a block. `pieces`: see has_pieces.
template <class Keys>
__device__ __forceinline__ void count_digits(const Numbers& values, int64_t count, bool pieces, Digit digit,
                                             KeyRange<typename Keys::Key> range, unsigned long long* histogram) {
  constexpr int size = KeyPiece<Keys>::size;
  using Tables = uint4[kBuckets];
  SPCL_SHARED(Tables, tables);
  for (int b = static_cast<int>(threadIdx.x); b < kBuckets; b += kCountingThreads) tables[b] = make_uint4(0, 0, 0, 0);
  DigitCounter<Keys> counter(digit, range, &tables[0].x + threadIdx.x % kCountingTables, kCountingTables);
  __syncthreads();

  const int64_t threads = int64_t{gridDim.x} * kCountingThreads, whole = pieces ? count / size : 0;
  const auto* data = reinterpret_cast<const KeyPiece<Keys>*>(values.data);
  int64_t p = int64_t{blockIdx.x} * kCountingThreads + threadIdx.x;
  for (; p + (kCountingLoads - 1) * threads < whole; p += kCountingLoads * threads) {
    KeyPiece<Keys> loaded[kCountingLoads];
#pragma unroll
    for (int l = 0; l < kCountingLoads; ++l) loaded[l] = data[p + l * threads];
#pragma unroll
    for (int l = 0; l < kCountingLoads; ++l) {
#pragma unroll
      for (int k = 0; k < size; ++k) counter.add(key_of<Keys>(loaded[l].values[k]));
    }
  }
  for (; p * size < count; p += threads) {
    typename Keys::Key keys[size];
    read_keys<Keys>(values, pieces, p * size, count, keys);
#pragma unroll
    for (int k = 0; k < size; ++k) counter.add(keys[k]);
  }
  counter.flush();
  __syncthreads();

  for (int b = static_cast<int>(threadIdx.x); b < kBuckets; b += kCountingThreads) {
    const uint4 counts = tables[b];
    const unsigned sum = counts.x + counts.y + counts.z + counts.w;
    if (sum > 0) atomicAdd(histogram + b, static_cast<unsigned long long>(sum));
  }
}

}  // namespace on_device
}  // namespace spcl
