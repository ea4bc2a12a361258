#pragma once

// Rows of a few classes on their way from memory to the threads, one row a thread.
//
// Rows of 7 float32 are 28 bytes apart, so a thread that read its own row would load single words. A block copies its
// rows as they lie, 16 bytes at a time, into shared memory, and each thread takes its row from there in the largest
// units that rows have in common. A row is an odd number of units, so neighbouring rows start in different banks; only
// rows that are an even number of 16 bytes are set 16 bytes further apart.

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

  /// Shared memory for `rows` rows: they begin at the place among 16 bytes that they have in memory.
  static constexpr int bytes(int rows) { return (rows * kPitch + 15) / 16 * 16 + 16; }

  /// Whether rows that start at `data` can be read here; they have to be contiguous too.
  static bool fits(const char* data, int64_t row_stride, int64_t class_stride) {
    return row_stride == kRowBytes && class_stride == static_cast<int64_t>(sizeof(Stored)) &&
           reinterpret_cast<uintptr_t>(data) % kUnit == 0;
  }

  /// Copies `rows` rows from `first` to `tile`, which is aligned to 16 bytes. All threads of the block take part; a
  /// barrier has to follow.
  __device__ __forceinline__ static void copy(const char* first, int rows, char* tile) {
    const int phase = static_cast<int>(reinterpret_cast<uintptr_t>(first) % 16);
    const int end = phase + rows * kRowBytes;
    const char* base = first - phase;
    const int threads = static_cast<int>(blockDim.x);
    // Loads before stores: four of them are on their way at a time.
    for (int piece = static_cast<int>(threadIdx.x); piece * 16 < end; piece += 4 * threads) {
      uint4 loaded[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int byte = (piece + k * threads) * 16;
        if (byte >= phase && byte + 16 <= end) loaded[k] = __ldcs(reinterpret_cast<const uint4*>(base + byte));
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int byte = (piece + k * threads) * 16;
        if (byte >= phase && byte + 16 <= end) *reinterpret_cast<uint4*>(tile + place(byte)) = loaded[k];
      }
    }
    if constexpr (kUnit < 16) {  // the first and the last piece, where they are not whole
      const int lane = static_cast<int>(threadIdx.x);
      const int last = end / 16 * 16;
      for (int k = lane; k < 16 / static_cast<int>(sizeof(Stored)); k += threads) {
        const int in_first = k * static_cast<int>(sizeof(Stored)), in_last = last + in_first;
        if (phase > 0 && in_first >= phase && in_first < end) copy_one(base, tile, in_first);
        if (in_last < end && (last > 0 || phase == 0)) copy_one(base, tile, in_last);
      }
    }
  }

  /// Reads row `row` of a tile whose rows began at the address `first` of memory.
  __device__ __forceinline__ static void read(const char* tile, const char* first, int row, Real* values) {
    const int phase = kUnit < 16 ? static_cast<int>(reinterpret_cast<uintptr_t>(first) % 16) : 0;
    const char* source = tile + phase + row * kPitch;
    alignas(16) Stored stored[classes];
#pragma unroll
    for (int unit = 0; unit < kRowBytes / kUnit; ++unit) {
      if constexpr (kUnit == 16) copy_unit<uint4>(source, stored, unit);
      if constexpr (kUnit == 8) copy_unit<uint2>(source, stored, unit);
      if constexpr (kUnit == 4) copy_unit<uint32_t>(source, stored, unit);
      if constexpr (kUnit == 2) copy_unit<uint16_t>(source, stored, unit);
    }
#pragma unroll
    for (int c = 0; c < classes; ++c) values[c] = widened(stored[c]);
  }

  /// Writes row `row` of a tile that begins at a multiple of 16 bytes in memory; `values` are of the stored type.
  __device__ __forceinline__ static void write(char* tile, int row, const Stored* values) {
    char* target = tile + row * kPitch;
    alignas(16) Stored stored[classes];
#pragma unroll
    for (int c = 0; c < classes; ++c) stored[c] = values[c];
#pragma unroll
    for (int unit = 0; unit < kRowBytes / kUnit; ++unit) {
      if constexpr (kUnit == 16) reinterpret_cast<uint4*>(target)[unit] = reinterpret_cast<uint4*>(stored)[unit];
      if constexpr (kUnit == 8) reinterpret_cast<uint2*>(target)[unit] = reinterpret_cast<uint2*>(stored)[unit];
      if constexpr (kUnit == 4) reinterpret_cast<Stored*>(target)[unit] = stored[unit];
    }
  }

  /// Where byte `byte` of the rows as they lie in memory is in a tile.
  __device__ __forceinline__ static int place(int byte) {
    return kIsPadded ? byte + byte / kRowBytes * 16 : byte;  // then phase is 0, and a piece has one row
  }

 private:
  __device__ __forceinline__ static void copy_one(const char* base, char* tile, int byte) {
    *reinterpret_cast<Stored*>(tile + byte) = *reinterpret_cast<const Stored*>(base + byte);
  }
  template <class Unit>
  __device__ __forceinline__ static void copy_unit(const char* source, Stored* stored, int unit) {
    reinterpret_cast<Unit*>(stored)[unit] = reinterpret_cast<const Unit*>(source)[unit];
  }
};

}  // namespace on_device
}  // namespace spcl
