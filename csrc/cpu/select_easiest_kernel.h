// The kernel, for the instruction set being compiled (see cpu/every_isa.h).

#include "cpu/key_lanes.h"

namespace spcl {
namespace SPCL_ISA {

template <class Keys>
int64_t count_ties(const FloatRows& values, int64_t begin, int64_t end, uint64_t key) {
  typedef KeyLanes<typename Keys::Key> Lanes;
  typedef typename Lanes::Vector Vector;
  const auto wanted = static_cast<typename Keys::Key>(key);
  Vector ties{};
  for (int64_t start = begin; start < end; start += kKeyBlock) {
    const int64_t stop = end - start < kKeyBlock ? end : start + kKeyBlock;
    for_each_key_vector<Keys>(values, start, stop, [&](Vector lanes) { ties -= (Vector)(lanes == wanted); });
  }
  return Lanes::sum(ties);
}

/// Writes 1 for the keys below `bound` and 0 for the others.
template <class Keys>
void mark_below(const FloatRows& values, int64_t begin, int64_t end, uint64_t bound, char* selected) {
  typedef KeyLanes<typename Keys::Key> Lanes;
  typedef typename Lanes::Vector Vector;
  const auto limit = static_cast<typename Keys::Key>(bound);
  char marks[kKeyBlock + Lanes::count];
  for (int64_t start = begin; start < end; start += kKeyBlock) {
    const int64_t stop = end - start < kKeyBlock ? end : start + kKeyBlock;
    char* to = marks;
    for_each_key_vector<Keys>(values, start, stop, [&](Vector lanes) {
      Lanes::store_flags((Vector)(lanes < limit), to);
      to += Lanes::count;
    });
    std::memcpy(selected + start, marks, static_cast<size_t>(stop - start));
  }
}

/// Writes 1 for the keys below `key` and for the first `ties` keys equal to it, 0 for the others.
template <class Keys>
void mark_with_ties(const FloatRows& values, int64_t begin, int64_t end, uint64_t key, int64_t ties, char* selected) {
  typedef KeyLanes<typename Keys::Key> Lanes;
  const auto limit = static_cast<typename Keys::Key>(key);
  for (int64_t start = begin; start < end; start += kKeyBlock) {
    const int64_t stop = end - start < kKeyBlock ? end : start + kKeyBlock;
    int64_t i = start;
    for_each_key_vector<Keys>(values, start, stop, [&](auto lanes) {
      for (int lane = 0; lane < Lanes::count && i < stop; ++lane, ++i) {
        const bool is_tie = lanes[lane] == limit;
        selected[i] = lanes[lane] < limit || (is_tie && ties > 0);
        ties -= is_tie;
      }
    });
  }
}

int64_t count_ties(const FloatRows& values, int64_t begin, int64_t end, uint64_t key) {
  return with_keys(values.type, [&]<class Keys>(Keys) { return count_ties<Keys>(values, begin, end, key); });
}

void mark_below(const FloatRows& values, int64_t begin, int64_t end, uint64_t bound, char* selected) {
  with_keys(values.type, [&]<class Keys>(Keys) { mark_below<Keys>(values, begin, end, bound, selected); });
}

void mark_with_ties(const FloatRows& values, int64_t begin, int64_t end, uint64_t key, int64_t ties, char* selected) {
  with_keys(values.type, [&]<class Keys>(Keys) { mark_with_ties<Keys>(values, begin, end, key, ties, selected); });
}

}  // namespace SPCL_ISA
}  // namespace spcl
