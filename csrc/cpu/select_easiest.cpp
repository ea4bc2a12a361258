#include "cpu/select_easiest.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/difficulty_quantile.h"
#include "cpu/intrinsics.h"
#include "cpu/isa.h"
#include "cpu/key_types.h"

#define SPCL_KERNEL_SOURCE "cpu/select_easiest_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {
namespace {

constexpr int64_t kValues = 1 << 15;  // of a chunk; ties are counted by chunk

int64_t count_ties(const FloatRows& values, int64_t begin, int64_t end, uint64_t key) {
  SPCL_ON_BEST_ISA(count_ties(values, begin, end, key));
}

void mark_below(const FloatRows& values, int64_t begin, int64_t end, uint64_t bound, char* selected) {
  SPCL_ON_BEST_ISA(mark_below(values, begin, end, bound, selected));
}

void mark_with_ties(const FloatRows& values, int64_t begin, int64_t end, uint64_t key, int64_t ties, char* selected) {
  SPCL_ON_BEST_ISA(mark_with_ties(values, begin, end, key, ties, selected));
}

}  // namespace

void select_easiest(const FloatRows& values, int64_t count, double pace, const ForParts& for_parts, char* selected) {
  const OrderStatistic threshold = order_statistic(values, count, pace, for_parts);
  if (threshold.easiest_ties == threshold.ties) {
    const uint64_t bound = threshold.known > 0 ? threshold.key + 1 : 0;
    return for_parts(count, kValues,
                     [&](int64_t begin, int64_t end) { mark_below(values, begin, end, bound, selected); });
  }
  const int64_t chunks = (count + kValues - 1) / kValues;
  std::vector<int64_t> ties(static_cast<size_t>(chunks));
  const auto for_chunks = [&](const auto& body) {
    for_parts(chunks, 1, [&](int64_t first, int64_t last) {
      for (int64_t c = first; c < last; ++c) body(c, c * kValues, std::min(count, (c + 1) * kValues));
    });
  };
  for_chunks([&](int64_t c, int64_t begin, int64_t end) {
    ties[static_cast<size_t>(c)] = count_ties(values, begin, end, threshold.key);
  });
  int64_t cut = 0, left = threshold.easiest_ties;  // the chunk in which the last tie is taken, and how many are
  while (cut < chunks && left > ties[static_cast<size_t>(cut)]) left -= ties[static_cast<size_t>(cut++)];
  for_chunks([&](int64_t c, int64_t begin, int64_t end) {
    if (c == cut) return mark_with_ties(values, begin, end, threshold.key, left, selected);
    mark_below(values, begin, end, threshold.key + (c < cut ? 1 : 0), selected);
  });
}

}  // namespace spcl
