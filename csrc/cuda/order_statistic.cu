#include "cuda/digit_counts.h"
#include "cuda/order_statistic.h"
#include "cuda/reduce.h"
#include "cuda/scan.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = kCountingThreads;

/// Finds the bucket of the threshold in the counts of all blocks, which it clears.
template <bool is_first>
__device__ __forceinline__ bool pick_bucket(OrderWork* work, const DevicePace& pace, int bits) {
  constexpr int own = kBuckets / kThreads;
  unsigned long long* histogram = work->histogram + threadIdx.x * own;
  Threshold& threshold = work->threshold;
  long long counts[own], sum = 0, rank = threshold.rank;
#pragma unroll
  for (int k = 0; k < own; ++k) {
    counts[k] = static_cast<long long>(histogram[k]);
    histogram[k] = 0;
    sum += counts[k];
  }
  const unsigned long long found = threshold.key;
  const auto scanned = scan_of_block<kThreads>(sum);
  if (is_first) rank = rank_of_pace(pace.value(), scanned.all);
  if (is_first && threadIdx.x == 0) threshold.known = rank > 0 ? scanned.all : 0;
  long long before = scanned.before;
  if (rank <= before || rank > before + sum) return false;
  bool is_found = false;
#pragma unroll
  for (int k = 0; k < own; ++k) {
    if (!is_found && rank <= before + counts[k]) {
      is_found = true;
      threshold.key = found << bits | (threadIdx.x * own + k);
      threshold.rank = rank - before;
      threshold.equal = counts[k];
    }
    before += counts[k];
  }
  return true;
}

template <class Keys, bool is_first>
__global__ void __launch_bounds__(kThreads) order_statistic_pass_kernel(Ranking ranking, bool pieces, Digit digit,
                                                                        OrderWork* work, typename Keys::Bits* result) {
  const auto range = keys_below<Keys>(is_first ? 0 : work->threshold.key, digit);
  count_digits<Keys>(ranking.values, ranking.count, pieces, digit, range, work->histogram);
  if (!is_last_block(&work->threshold.ticket)) return;
  const bool picks = pick_bucket<is_first>(work, ranking.pace, digit.bits);
  if (is_first || digit.shift > 0 || result == nullptr) return;
  const Threshold& threshold = work->threshold;
  if (picks) *result = Keys::bits(static_cast<typename Keys::Key>(threshold.key));
  if (threshold.known == 0 && threadIdx.x == 0) *result = Keys::bits(Keys::nan);
}

}  // namespace
}  // namespace on_device

void order_statistic_cuda(const Ranking& ranking, OrderWork* work, void* result, cudaStream_t stream) {
  using namespace on_device;
  with_float_type(ranking.values.type, [&]<class Stored>(Stored*) {
    typedef typename KeysOf<Stored>::Keys Keys;
    const bool pieces = has_pieces<Keys>(ranking.values);
    const unsigned grid = counting_grid<Keys>(ranking.count);
    auto* threshold = static_cast<typename Keys::Bits*>(result);
    for (int pass = 0; pass < kDigits<Keys>; ++pass) {
      const Digit digit = Digit::of(kKeyBits<Keys>, pass);
      const auto kernel =
          pass == 0 ? order_statistic_pass_kernel<Keys, true> : order_statistic_pass_kernel<Keys, false>;
      SPCL_LAUNCH(kernel, grid, kThreads, 0, stream, ranking, pieces, digit, work, threshold);
    }
  });
}

}  // namespace spcl
