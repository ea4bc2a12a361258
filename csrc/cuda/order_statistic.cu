#include "cuda/keys.h"
#include "cuda/order_statistic.h"
#include "cuda/reduce.h"
#include "cuda/scan.h"

namespace spcl {
namespace on_device {
namespace {

constexpr int kThreads = 512;
constexpr int kTables = 4;         // of a block: lanes that count the same digit rarely add to one address
constexpr int kLoads = 4;          // of a thread at once
constexpr int64_t kBlocks = 1056;  // at most: each adds its counts to those of all

/// Finds the bucket of the threshold in the counts of all blocks, which it clears.
template <bool is_first>
__device__ __forceinline__ bool pick_bucket(OrderWork* work, double pace, int bits) {
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
  if (is_first) rank = rank_of_pace(pace, scanned.all);
  if (is_first && threadIdx.x == 0) threshold.known = scanned.all;
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
  constexpr int size = KeyPiece<Keys>::size;
  using Tables = uint4[kBuckets];
  SPCL_SHARED(Tables, tables);
  for (int b = static_cast<int>(threadIdx.x); b < kBuckets; b += kThreads) tables[b] = make_uint4(0, 0, 0, 0);
  const auto found = is_first ? 0 : static_cast<typename Keys::Key>(work->threshold.key);
  DigitCounter<Keys> counter(digit, found, &tables[0].x + threadIdx.x % kTables, kTables);
  __syncthreads();

  const int64_t threads = int64_t{gridDim.x} * kThreads, whole = pieces ? ranking.count / size : 0;
  const auto* data = reinterpret_cast<const KeyPiece<Keys>*>(ranking.values.data);
  int64_t p = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (; p + (kLoads - 1) * threads < whole; p += kLoads * threads) {
    KeyPiece<Keys> loaded[kLoads];
#pragma unroll
    for (int l = 0; l < kLoads; ++l) loaded[l] = data[p + l * threads];
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
#pragma unroll
      for (int k = 0; k < size; ++k) counter.add(key_of<Keys>(loaded[l].values[k]));
    }
  }
  for (; p * size < ranking.count; p += threads) {
    typename Keys::Key keys[size];
    read_keys<Keys>(ranking.values, pieces, p * size, ranking.count, keys);
#pragma unroll
    for (int k = 0; k < size; ++k) counter.add(keys[k]);
  }
  counter.flush();
  __syncthreads();

  for (int b = static_cast<int>(threadIdx.x); b < kBuckets; b += kThreads) {
    const uint4 counts = tables[b];
    const unsigned sum = counts.x + counts.y + counts.z + counts.w;
    if (sum > 0) atomicAdd(work->histogram + b, static_cast<unsigned long long>(sum));
  }
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
    const unsigned grid = grid_of(parts_of(ranking.count, KeyPiece<Keys>::size * kLoads * kThreads), kBlocks);
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
