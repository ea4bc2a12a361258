#include "cpu/difficulty_quantile.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <numeric>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"
#include "cpu/key_types.h"

#define SPCL_KERNEL_SOURCE "cpu/difficulty_quantile_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

KeyWindow KeyWindow::over(uint64_t first, uint64_t last) {
  const int bits = std::bit_width(last - first);
  constexpr int bits_of_bucket = std::bit_width(static_cast<uint64_t>(buckets - 1));
  return {first, last, bits > bits_of_bucket ? bits - bits_of_bucket : 0};
}

KeyWindow KeyWindow::bucket(int64_t index) const {
  const uint64_t start = first + (static_cast<uint64_t>(index) << shift);
  const uint64_t width = (uint64_t{1} << shift) - 1;
  return over(start, last - start < width ? last : start + width);
}

void KeyCounts::add(const KeyCounts& other) {
  known += other.known;
  below += other.below;
  for (int64_t b = 0; b < KeyWindow::buckets; ++b) inside[b] += other.inside[b];
}

int64_t KeyCounts::all_inside() const { return std::accumulate(inside, inside + KeyWindow::buckets, int64_t{}); }

void count_keys(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, KeyCounts& counts) {
  SPCL_ON_BEST_ISA(count_keys(values, begin, end, window, counts));
}

void count_integers(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, KeyCounts& counts) {
  SPCL_ON_BEST_ISA(count_integers(values, begin, end, window, counts));
}

int64_t gather_keys(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, void* keys) {
  SPCL_ON_BEST_ISA(gather_keys(values, begin, end, window, keys));
}

KeyRank kth_key(FloatType type, void* keys, int64_t count, int64_t rank) {
  SPCL_ON_BEST_ISA(kth_key(type, keys, count, rank));
}

}  // namespace spcl
