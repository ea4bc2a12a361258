#pragma once

// Rows of a few classes on their way from memory to the threads, one row a thread.
//
// Rows of 7 float32 are 28 bytes apart, so a thread that read its own row would load single words. A block copies its
// rows as they lie, 16 bytes at a time, into shared memory, and each thread takes its row from there in the largest
// units that rows have in common. A row is an odd number of units, so neighbouring rows start in different banks; only
// rows that are an even number of 16 bytes are set 16 bytes further apart.

#include <type_traits>

#include "cuda/dtypes.h"

namespace spcl {
namespace on_device {

template <class Stored, int classes>
struct RowTile {
  typedef typename Computed<Stored>::Real Real;
  static constexpr int kRowBytes = classes * static_cast<int>(sizeof(Stored));
  static constexpr int kUnit = kRowBytes % 16 == 0 ? 16 : (kRowBytes % 8 == 0 ? 8 : (kRowBytes % 4 == 0 ? 4 : 2));
  static constexpr int kPitch = kRowBytes % 32 == 0 ? kRowBytes + 16 : kRowBytes;
  static constexpr bool kIsPadded = kPitch != kRowBytes;
  typedef std::conditional_t<kUnit == 16, uint4,
                             std::conditional_t<kUnit == 8, uint2, std::conditional_t<kUnit == 4, uint32_t, uint16_t>>>
      Unit;

  /// Shared memory for `rows` rows: they begin at the place among 16 bytes that they have in memory.
  SPCL_HD static constexpr int bytes(int rows) { return (rows * kPitch + 15) / 16 * 16 + 16; }

  /// Whether rows that start at `data` can be read here; they have to be contiguous too.
  static bool fits(const char* data, int64_t row_stride, int64_t class_stride) {
    return row_stride == kRowBytes && class_stride == static_cast<int64_t>(sizeof(Stored)) &&
           reinterpret_cast<uintptr_t>(data) % kUnit == 0;
  }

  /// Reads row `row` of a tile whose rows began at the address `first` of memory.
  __device__ __forceinline__ static void read(const char* tile, const char* first, int row, Real* values) {
    read(tile + phase_of(first), row, values);
  }

  /// Where among 16 bytes rows begin that start at `data`.
  __device__ __forceinline__ static int phase_of(const char* data) {
    return kUnit < 16 ? static_cast<int>(reinterpret_cast<uintptr_t>(data) % 16) : 0;
  }

  /// Copies `rows` rows from `first` to `tile`, which is aligned to 16 bytes, while the block of `threads` threads goes
  /// on. All of them take part; await_copies() has to follow, and then a barrier.
  template <int threads>
  __device__ __forceinline__ static void start_copy(const char* first, int rows, char* tile) {
    const int phase = phase_of(first), end = phase + rows * kRowBytes;
    for (int byte = static_cast<int>(threadIdx.x) * 16; byte + 16 <= end; byte += threads * 16) {
      if (byte >= phase) copy_16_bytes(shared_address(tile + place(byte)), first - phase + byte);
    }
    for_edges<threads>(phase, end, [&](int byte) { copy_one(first - phase, tile, byte); });
  }

  /// The same, with less to ask, for `threads` rows that begin at a multiple of 16 bytes.
  template <int threads>
  __device__ __forceinline__ static void start_whole_copy(const char* first, char* tile) {
    static_assert(threads % 16 == 0);
    const int own = static_cast<int>(threadIdx.x) * 16;
    const char* source = pinned(first + own);
    const SharedAddress target = shared_address(tile + place(own));
#pragma unroll
    for (int byte = 0; byte < threads * kRowBytes; byte += threads * 16) {
      if (own + byte < threads * kRowBytes) copy_16_bytes(target + place(byte), source + byte);
    }
  }

  /// Where byte `byte` of the rows as they lie in memory is in a tile.
  __device__ __forceinline__ static int place(int byte) {
    return kIsPadded ? byte + byte / kRowBytes * 16 : byte;  // then phase is 0, and a piece has one row
  }

  /// Row `row` of the rows that begin at `rows` in shared memory.
  __device__ __forceinline__ static void read(const char* rows, int row, Real* values) {
    const char* source = rows + row * kPitch;
    alignas(16) Stored stored[classes];
#pragma unroll
    for (int unit = 0; unit < kRowBytes / kUnit; ++unit) {
      reinterpret_cast<Unit*>(stored)[unit] = reinterpret_cast<const Unit*>(source)[unit];
    }
#pragma unroll
    for (int c = 0; c < classes; ++c) values[c] = widened(stored[c]);
  }
  /// Its class `c`.
  __device__ __forceinline__ static Real read_one(const char* rows, int row, int c) {
    return load<Stored>(rows + row * kPitch + c * static_cast<int>(sizeof(Stored)));
  }

  /// Puts `values` in the place of such a row.
  __device__ __forceinline__ static void write(char* rows, int row, const Real* values) {
    alignas(16) Stored stored[classes];
#pragma unroll
    for (int c = 0; c < classes; ++c) stored[c] = narrowed<Stored>(values[c]);
    char* target = rows + row * kPitch;
#pragma unroll
    for (int unit = 0; unit < kRowBytes / kUnit; ++unit) {
      reinterpret_cast<Unit*>(target)[unit] = reinterpret_cast<const Unit*>(stored)[unit];
    }
  }

  /// Copies `count` such rows to `out`, contiguous and aligned to the units of a row, 16 bytes at a time; `tile` is
  /// where `rows` less its place among 16 bytes is. A barrier has to come before.
  template <int threads>
  __device__ __forceinline__ static void store(const char* tile, int phase_of_tile, int count, char* out) {
    const int phase = phase_of(out), end = phase + count * kRowBytes;
    const int ahead = phase_of_tile - phase;
    const int own = static_cast<int>(threadIdx.x) * 16;
    char* base = out - phase;
#pragma unroll
    for (int byte = own; byte < own + 16 + threads * kRowBytes; byte += threads * 16) {
      if (byte < phase || byte + 16 > end) continue;
      if (kUnit == 16 || ahead == 0) {
        *reinterpret_cast<uint4*>(base + byte) = *reinterpret_cast<const uint4*>(tile + place(byte));
      } else {
        alignas(16) Unit units[16 / kUnit];
#pragma unroll
        for (int k = 0; k < 16 / kUnit; ++k) units[k] = *reinterpret_cast<const Unit*>(tile + byte + ahead + k * kUnit);
        *reinterpret_cast<uint4*>(base + byte) = *reinterpret_cast<const uint4*>(units);
      }
    }
    for_edges<threads>(phase, end, [&](int byte) {
      *reinterpret_cast<Stored*>(base + byte) = *reinterpret_cast<const Stored*>(tile + byte + ahead);
    });
  }

 private:
  /// Calls `body` with the first byte of each element between `phase` and `end` whose 16 bytes are not all between.
  template <int threads, class Body>
  __device__ __forceinline__ static void for_edges(int phase, int end, const Body& body) {
    static_assert(threads >= 8);
    if constexpr (kUnit < 16) {
      const int in_first = static_cast<int>(threadIdx.x) * static_cast<int>(sizeof(Stored));
      if (in_first >= 16) return;
      const int last = end / 16 * 16, in_last = last + in_first;
      if (phase > 0 && in_first >= phase && in_first < end) body(in_first);
      if (in_last < end && (last > 0 || phase == 0)) body(in_last);
    }
  }
  __device__ __forceinline__ static void copy_one(const char* base, char* tile, int byte) {
    *reinterpret_cast<Stored*>(tile + byte) = *reinterpret_cast<const Stored*>(base + byte);
  }
};

}  // namespace on_device
}  // namespace spcl
