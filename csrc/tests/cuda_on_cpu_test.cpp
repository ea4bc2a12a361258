// What the emulation promises (tests/cuda_on_cpu.h): run with no argument, it says what does not hold and returns 1.

#include <cstdio>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "cuda/reduce.h"

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

/// The message of the error that a launch ends in; empty: none.
template <class Launch>
std::string error_of(const Launch& launch) {
  try {
    launch();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

__global__ void rank_kernel(int* ranks) {
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  ranks[index] = index;
}

__global__ void reversed_kernel(const int* values, int* reversed) {
  using Tile = int[64];
  SPCL_SHARED(Tile, tile);
  tile[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  reversed[threadIdx.x] = tile[63 - threadIdx.x];
}

__global__ void shared_is_poisoned_kernel(int* found) {
  using Tile = float[32];
  SPCL_SHARED(Tile, tile);
  SPCL_DYNAMIC_SHARED(float, more);
  if (tile[threadIdx.x] == tile[threadIdx.x] || more[threadIdx.x] == more[threadIdx.x]) *found = 1;
  __syncwarp();
  tile[threadIdx.x] = more[threadIdx.x] = 1;
}

__global__ void exchanges_kernel(int* results) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* own = results + 8 * threadIdx.x;
  own[0] = __shfl_sync(~0u, lane, 5);
  own[1] = __shfl_xor_sync(~0u, lane, 3);
  own[2] = __shfl_down_sync(~0u, lane, 4);
  own[3] = __shfl_up_sync(~0u, lane, 4);
  own[4] = static_cast<int>(__ballot_sync(~0u, lane % 2));
  own[5] = __reduce_add_sync(~0u, lane);
  own[6] = __shfl_sync(~0u, lane, 1, 8);
  own[7] = static_cast<int>(__match_any_sync(~0u, lane / 16));
}

__global__ void block_sum_kernel(double* sums) {
  for (int turn = 0; turn < 3; ++turn) {
    const double sum = spcl::on_device::sum_of_group<128>(static_cast<double>(threadIdx.x + turn));
    if (threadIdx.x == 0) sums[turn] = sum;
  }
}

__global__ void last_block_kernel(unsigned* ticket, int* order, int* last) {
  if (threadIdx.x == 63) order[blockIdx.x] = 1;
  if (!spcl::on_device::is_last_block(ticket)) return;
  int seen = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) seen += order[b];
  if (threadIdx.x == 63) *last += seen;
}

__global__ void some_leave_kernel() {
  if (threadIdx.x % 2 == 0) return;
  __shfl_sync(~0u, 1, 0);
}

__global__ void two_barriers_kernel(int which) {
  if (static_cast<int>(threadIdx.x) < which) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void copies_kernel(const char* from, int* found) {
  SPCL_DYNAMIC_SHARED(char, to);
  spcl::on_device::copy_16_bytes(spcl::on_device::shared_address(to), from);
  spcl::on_device::await_copies();
  *found = to[15];
}

__global__ void much_shared_kernel() {
  using Much = char[40 * 1024];
  SPCL_SHARED(Much, much);
  much[0] = 0;
}

void test_order() {
  std::vector<int> values(64), reversed(64), ranks(96, -1);
  for (int k = 0; k < 64; ++k) values[static_cast<size_t>(k)] = k;
  SPCL_LAUNCH(rank_kernel, 3, 32, 0, nullptr, ranks.data());
  SPCL_LAUNCH(reversed_kernel, 1, 64, 0, nullptr, values.data(), reversed.data());
  bool right = true;
  for (int k = 0; k < 96; ++k) right &= ranks[static_cast<size_t>(k)] == k;
  expect(right, "every thread of every block runs once");
  right = true;
  for (int k = 0; k < 64; ++k) right &= reversed[static_cast<size_t>(k)] == 63 - k;
  expect(right, "a barrier lets every thread see what the others wrote");
}

void test_exchanges() {
  std::vector<int> results(8 * 64);
  SPCL_LAUNCH(exchanges_kernel, 1, 64, 0, nullptr, results.data());
  bool right = true;
  for (int thread = 0; thread < 64; ++thread) {
    const int lane = thread % 32;
    const int* own = &results[static_cast<size_t>(8 * thread)];
    right &= own[0] == 5 && own[1] == (lane ^ 3) && own[2] == (lane + 4 < 32 ? lane + 4 : lane);
    right &= own[3] == (lane >= 4 ? lane - 4 : lane) && own[4] == static_cast<int>(0xAAAAAAAA) && own[5] == 496;
    right &= own[6] == lane / 8 * 8 + 1 && own[7] == static_cast<int>(lane < 16 ? 0xFFFFu : 0xFFFF0000u);
  }
  expect(right, "exchanges give each lane what CUDA's do");
  double sums[3] = {};
  SPCL_LAUNCH(block_sum_kernel, 1, 128, 0, nullptr, sums);
  expect(sums[0] == 8128 && sums[1] == 8256 && sums[2] == 8384, "sums over a block, one after the other");
}

void test_memory() {
  int found = 0;
  SPCL_LAUNCH(shared_is_poisoned_kernel, 4, 32, 128, nullptr, &found);
  expect(found == 0, "shared memory is NaN when a block starts");
  unsigned ticket = 0;
  int last = 0;
  for (int turn = 0; turn < 2; ++turn) {
    int order[7] = {};
    SPCL_LAUNCH(last_block_kernel, 7, 64, 0, nullptr, &ticket, order, &last);
  }
  expect(last == 14 && ticket == 0, "the last block sees what all blocks wrote, and leaves the ticket at 0");
}

void test_errors() {
  const auto says = [](const std::string& error, const char* words) { return error.find(words) != std::string::npos; };
  expect(says(error_of([] { SPCL_LAUNCH(some_leave_kernel, 1, 32, 0, nullptr); }), "a lane that has left"),
         "an exchange with a lane that has left is an error");
  expect(says(error_of([] { SPCL_LAUNCH(two_barriers_kernel, 1, 32, 0, nullptr, 7); }), "different barriers"),
         "threads at different barriers are an error");
  expect(error_of([] { SPCL_LAUNCH(two_barriers_kernel, 1, 32, 0, nullptr, 32); }).empty(), "and at one are none");
  expect(says(error_of([] { SPCL_LAUNCH(two_barriers_kernel, 1, 2048, 0, nullptr, 0); }), "a GPU would refuse"),
         "a launch that a GPU would refuse is an error");
  expect(says(error_of([] { SPCL_LAUNCH(much_shared_kernel, 1, 32, 8 * 1024 + 1, nullptr); }), "shared memory"),
         "and so is one of more shared memory than there is");
  expect(error_of([] { SPCL_LAUNCH(much_shared_kernel, 1, 32, 8 * 1024, nullptr); }).empty(), "and no more is none");
  alignas(16) const char bytes[32] = {};
  int found = 0;
  const auto copy = [&](int from) {
    return error_of([&] { SPCL_LAUNCH(copies_kernel, 1, 1, 16, nullptr, bytes + from, &found); });
  };
  expect(copy(16).empty() && says(copy(8), "not aligned"), "a copy past the registers needs aligned addresses");
}

}  // namespace

int main() {
  test_order();
  test_exchanges();
  test_memory();
  test_errors();
  return failures > 0;
}
