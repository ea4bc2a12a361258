// The kernel, for the instruction set being compiled (see cpu/every_isa.h).

#include "cpu/key_lanes.h"

namespace spcl {
namespace SPCL_ISA {

/// Neighbours count in different tables: an increment would wait for the one before it where values repeat.
inline constexpr int kTables = 4;

template <class Keys>
void count_keys(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, KeyCounts& counts) {
  typedef typename Keys::Key Key;
  typedef KeyLanes<Key> Lanes;
  typedef typename Lanes::Vector Vector;
  const Key first = static_cast<Key>(window.first), width = static_cast<Key>(window.last - window.first);
  uint32_t tables[kTables][KeyWindow::buckets] = {};
  const Key last = static_cast<Key>(window.last);
  Vector known{}, up_to_last{};
  int64_t all_inside = 0;
  Key buckets[kKeyBlock + kSpareKeys];
  for (int64_t start = begin; start < end; start += kKeyBlock) {
    const int64_t stop = end - start < kKeyBlock ? end : start + kKeyBlock;
    int64_t inside = 0;
    for_each_key_vector<Keys>(values, start, stop, [&](Vector key) {
      Lanes::tally(known, key, Keys::largest);
      Lanes::tally(up_to_last, key, last);
      const Vector offset = key - first;
      inside += Lanes::append(offset >> window.shift, offset, width, buckets + inside);
    });
    all_inside += inside;
    int64_t i = 0;
    for (; i + kTables <= inside; i += kTables) {
      for (int t = 0; t < kTables; ++t) ++tables[t][buckets[i + t]];
    }
    for (; i < inside; ++i) ++tables[0][buckets[i]];
  }
  counts.known += Lanes::sum(known);
  counts.below += Lanes::sum(up_to_last) - all_inside;
  for (int64_t b = 0; b < KeyWindow::buckets; ++b) {
    for (int t = 0; t < kTables; ++t) counts.inside[b] += tables[t][b];
  }
}

template <class Keys>
int64_t gather_keys(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, void* keys) {
  typedef typename Keys::Key Key;
  typedef KeyLanes<Key> Lanes;
  const Key first = static_cast<Key>(window.first), width = static_cast<Key>(window.last - window.first);
  Key* to = static_cast<Key*>(keys);
  for (int64_t start = begin; start < end; start += kKeyBlock) {
    const int64_t stop = end - start < kKeyBlock ? end : start + kKeyBlock;
    for_each_key_vector<Keys>(values, start, stop, [&](typename Lanes::Vector key) {
      const auto offset = key - first;
      if (Lanes::any(offset, width)) to += Lanes::append(key, offset, width, to);  // all of them, or few
    });
  }
  return to - static_cast<Key*>(keys);
}

/// Decides one bit of the key after the other, from the highest in which the keys differ, and keeps those that agree.
template <class Key>
KeyRank kth_key(Key* keys, int64_t count, int64_t rank) {
  typedef KeyLanes<Key> Lanes;
  int64_t smaller = 0;
  for (;;) {
    Key differing = 0;
    for (int64_t i = 0; i < count; ++i) differing |= keys[i] ^ keys[0];
    if (differing == 0) return {keys[0], smaller, count};
    const Key bit = Key{1} << (63 - __builtin_clzll(differing));
    int64_t without = 0;
    for (int64_t i = 0; i < count; ++i) without += (keys[i] & bit) == 0;
    const bool takes_upper = rank > without;
    const Key wanted = takes_upper ? bit : 0;
    int64_t kept = 0, i = 0;
    for (; i + Lanes::count <= count; i += Lanes::count) {
      const typename Lanes::Vector key = Lanes::load(keys + i);
      kept += Lanes::append(key, (key & bit) ^ wanted, 0, keys + kept);
    }
    for (; i < count; ++i) {
      const Key key = keys[i];
      keys[kept] = key;
      kept += (key & bit) == wanted;
    }
    if (takes_upper) smaller += without, rank -= without;
    count = kept;
  }
}

void count_keys(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, KeyCounts& counts) {
  with_keys(values.type, [&]<class Keys>(Keys) { count_keys<Keys>(values, begin, end, window, counts); });
}

void count_integers(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, KeyCounts& counts) {
  count_keys<Int64Keys>(values, begin, end, window, counts);
}

int64_t gather_keys(const FloatRows& values, int64_t begin, int64_t end, const KeyWindow& window, void* keys) {
  return with_keys(values.type, [&]<class Keys>(Keys) { return gather_keys<Keys>(values, begin, end, window, keys); });
}

KeyRank kth_key(FloatType type, void* keys, int64_t count, int64_t rank) {
  return with_keys(type,
                   [&]<class Keys>(Keys) { return kth_key(static_cast<typename Keys::Key*>(keys), count, rank); });
}

}  // namespace SPCL_ISA
}  // namespace spcl
