#pragma once

// The order statistic of so few values that the threads of one block hold them.

#include "cuda/keys.h"
#include "cuda/scan.h"

namespace spcl {
namespace on_device {

inline constexpr int kThreadsOfFew = 1024;

/// The values of a block: a warp has neighbouring ones, `each` times 32 of them, and reads 32 at a time.
template <class Keys>
struct FewValues {
  static constexpr int each = kFewValues / kThreadsOfFew;
  typedef typename Keys::Key Key;

  Key keys[each];
  Key threshold;
  int rank, known;  // of the threshold among the values equal to it, from 1; see Threshold

  __device__ __forceinline__ static int index(int k) {
    const int thread = static_cast<int>(threadIdx.x);
    return (thread / 32 * each + k) * 32 + thread % 32;
  }

  /// Every thread of the block takes part.
  __device__ __forceinline__ explicit FewValues(const Ranking& ranking) : threshold(0), rank(0), known(0) {
    using Counts = unsigned[kBuckets];
    using Picked = int[2];
    SPCL_SHARED(Counts, counts);
    SPCL_SHARED(Picked, picked);
    const int count = static_cast<int>(ranking.count), thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int k = 0; k < each; ++k) keys[k] = index(k) < count ? key_at<Keys>(ranking.values, index(k)) : Keys::nan;
    for (int pass = 0; pass < kDigits<Keys>; ++pass) {
      for (int b = thread; b < kBuckets; b += kThreadsOfFew) counts[b] = 0;
      __syncthreads();
      const Digit digit = Digit::of(kKeyBits<Keys>, pass);
      DigitCounter<Keys> counter(digit, keys_below<Keys>(threshold, digit), counts, 1);
#pragma unroll
      for (int k = 0; k < each; ++k) counter.add(keys[k]);
      counter.flush();
      __syncthreads();
      constexpr int own = kBuckets / kThreadsOfFew;
      static_assert(own == 2);
      const int first = static_cast<int>(counts[thread * own]), second = static_cast<int>(counts[thread * own + 1]);
      const auto scanned = scan_of_block<kThreadsOfFew>(first + second);
      if (pass == 0) {
        rank = static_cast<int>(rank_of_pace(ranking.pace.value(), scanned.all));
        known = rank > 0 ? scanned.all : 0;
      }
      const int in_first = rank - scanned.before, in_second = in_first - first;
      if (in_first > 0 && in_second <= second) {
        picked[0] = thread * own + (in_second > 0 ? 1 : 0);
        picked[1] = in_second > 0 ? in_second : in_first;
      }
      __syncthreads();
      if (known == 0) return;
      threshold = threshold << digit.bits | static_cast<Key>(picked[0]);
      rank = picked[1];
    }
  }
};

}  // namespace on_device
}  // namespace spcl
