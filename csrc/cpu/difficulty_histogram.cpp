#include "cpu/difficulty_histogram.h"

#include <algorithm>

#include "cpu/key_types.h"

namespace spcl {

void difficulty_histogram(const HistogramInput& input, int64_t prefix, const ForParts& for_parts, int64_t* histogram) {
  KeyCounts counts{};
  const auto count_below = [&]<class Keys>(Keys) {
    const auto range = keys_below<Keys>(static_cast<uint64_t>(prefix), input.digit);
    if (range.is_empty || input.count == 0) return;
    const KeyWindow window{range.first, uint64_t{range.first} + range.width, input.digit.shift};
    count_all_keys(input.values, input.are_integers, input.count, window, for_parts, counts);
  };
  if (input.are_integers) {
    count_below(Int64Keys{});
  } else {
    with_keys(input.values.type, count_below);
  }
  std::copy_n(counts.inside, input.buckets(), histogram);
}

}  // namespace spcl
