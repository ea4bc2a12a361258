#include "cpu/lots.h"

#include <algorithm>
#include <array>
#include <limits>
#include <type_traits>
#include <vector>

#include "math/float_keys.h"

namespace spcl {
namespace {

/// SplitMix64 (Steele, Lea and Flood 2014).
uint64_t mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

/// 24 bits, so that a float32 holds them.
uint32_t lot(const Ids& ids, int64_t t, const Draw& draw) {
  const auto id = static_cast<uint64_t>(load_integer(ids.type, ids.data + t * ids.stride));
  const uint64_t of_epoch = mixed(id) ^ static_cast<uint64_t>(draw.epoch);
  return static_cast<uint32_t>(mixed(mixed(of_epoch) ^ static_cast<uint64_t>(draw.seed)) >> 40);
}

/// The order of keys, ascending, of equals by index: a radix sort of bytes, without those that all share.
template <class Key>
std::vector<uint32_t> order_of(const std::vector<Key>& keys) {
  const size_t count = keys.size();
  std::array<std::array<uint32_t, 256>, sizeof(Key)> begins{};
  for (const Key key : keys) {
    for (size_t b = 0; b < sizeof(Key); ++b) ++begins[b][key >> 8 * b & 0xFF];
  }
  std::vector<uint32_t> order(count), next(count);
  for (size_t k = 0; k < count; ++k) order[k] = static_cast<uint32_t>(k);
  for (size_t b = 0; b < sizeof(Key); ++b) {
    if (count == 0 || begins[b][keys[0] >> 8 * b & 0xFF] == count) continue;
    uint32_t begin = 0;
    for (uint32_t& of_byte : begins[b]) {
      const uint32_t size = of_byte;
      of_byte = begin;
      begin += size;
    }
    for (const uint32_t k : order) next[begins[b][keys[k] >> 8 * b & 0xFF]++] = k;
    order.swap(next);
  }
  return order;
}

/// The place of each key in that order.
template <class Key>
std::vector<uint32_t> places(const std::vector<Key>& keys) {
  const std::vector<uint32_t> order = order_of(keys);
  std::vector<uint32_t> place(order.size());
  for (size_t k = 0; k < order.size(); ++k) place[order[k]] = static_cast<uint32_t>(k);
  return place;
}

/// A key by which `first` decides, and `then` where it is equal.
uint64_t key_of(uint64_t first, uint32_t then) { return first << 32 | then; }

template <class Keys>
typename Keys::Key key_in(typename Keys::Bits bits) {
  return Keys::template key<typename Keys::Key>(bits);
}

/// float32 or float64 difficulties, read one by one.
template <class Real>
class Difficulties {
 public:
  typedef std::conditional_t<std::is_same_v<Real, double>, Float64Keys, Float32Keys> Keys;

  Difficulties(const FloatRows& rows, int64_t count) : rows_(rows), count(count) {}

  Real operator[](int64_t t) const { return load_as<Real>(rows_.data + t * rows_.row_stride); }
  bool is_known(int64_t t) const { return (*this)[t] == (*this)[t]; }

  /// In ascending order, or in descending; NaN has the key of +Inf then.
  std::vector<typename Keys::Key> keys(bool descending) const {
    std::vector<typename Keys::Key> keys(static_cast<size_t>(count));
    for (int64_t t = 0; t < count; ++t) {
      const Real value = descending ? -(*this)[t] : (*this)[t];
      const Real key = is_known(t) ? value : std::numeric_limits<Real>::infinity();
      keys[static_cast<size_t>(t)] = key_in<Keys>(__builtin_bit_cast(typename Keys::Bits, key));
    }
    return keys;
  }

  int64_t known() const {
    int64_t found = 0;
    for (int64_t t = 0; t < count; ++t) found += is_known(t);
    return found;
  }

 private:
  const FloatRows rows_;

 public:
  const int64_t count;
};

constexpr uint32_t kUnknown = 1 << 24;  // behind every lot

/// Keys of the turns in which utterances are taken, so that each dialogue gives about the share that one of its length
/// gave to `others`: neighbours by length, four or more, deal their shares among each other.
std::vector<uint32_t> turns_of(const std::vector<uint32_t>& lots, const Ids& ids, const Draw& draw,
                               const std::vector<bool>& others, const std::vector<int64_t>& dialogues) {
  const size_t count = lots.size(), D = dialogues.size() - 1;
  std::vector<uint64_t> keys(count);
  std::vector<float> known(D), share(D), dealt(D);
  for (size_t d = 0; d < D; ++d) {
    float taken = 0;
    for (auto t = static_cast<size_t>(dialogues[d]); t < static_cast<size_t>(dialogues[d + 1]); ++t) {
      const bool is_known = lots[t] != kUnknown;
      known[d] += is_known ? 1.0f : 0.0f;
      taken += is_known && others[t] ? 1.0f : 0.0f;
      keys[t] = key_of(d, lots[t]);
    }
    share[d] = taken / std::max(known[d], 1.0f);
  }
  const auto lot_of = [&](size_t d, int64_t stream) {
    const int64_t first = std::min(dialogues[d], static_cast<int64_t>(count) - 1);
    return lot(ids, first, {draw.epoch, draw.seed ^ stream});
  };
  std::vector<uint64_t> of_dialogues(D);
  for (size_t d = 0; d < D; ++d) of_dialogues[d] = key_of(static_cast<uint64_t>(known[d]), lot_of(d, 1));
  const std::vector<uint32_t> by_length = order_of(of_dialogues);
  const size_t groups = std::max<size_t>(D / 4, 1);
  for (size_t i = 0; i < D; ++i) of_dialogues[i] = key_of(i * groups / D, lot_of(by_length[i], 2));
  const std::vector<uint32_t> dealing = order_of(of_dialogues);
  for (size_t i = 0; i < D; ++i) dealt[by_length[i]] = share[by_length[dealing[i]]];

  const std::vector<uint32_t> within = places(keys);
  std::vector<uint32_t> turns(count);
  for (size_t t = 0, d = 0; t < count; ++t) {
    while (static_cast<int64_t>(t) >= dialogues[d + 1]) ++d;
    const float place = static_cast<float>(within[t]) - static_cast<float>(dialogues[d]);
    const float turn = (place + 0.5f) / std::max(known[d], 1.0f) - dealt[d];
    const float key = lots[t] == kUnknown ? std::numeric_limits<float>::infinity() : turn;
    turns[t] = key_in<Float32Keys>(__builtin_bit_cast(int32_t, key));
  }
  return turns;
}

/// Calls use(difficulties) with those of the type that the rows have.
template <class Use>
auto with_difficulties(const FloatRows& rows, int64_t count, const Use& use) {
  if (rows.type == FloatType::kFloat64) return use(Difficulties<double>(rows, count));
  return use(Difficulties<float>(rows, count));
}

}  // namespace

void select_by_odds(const FloatRows& difficulty, int64_t count, const Ids& ids, const Draw& draw, const Odds& odds,
                    bool* selected) {
  const auto pace = static_cast<float>(odds.pace);
  const auto tilt = static_cast<float>(odds.tilt * std::min(odds.pace, 1 - odds.pace));
  with_difficulties(difficulty, count, [&](const auto& rho) {
    const auto place = places(rho.keys(false));
    const auto known = static_cast<float>(std::max<int64_t>(rho.known(), 1));
    for (int64_t t = 0; t < count; ++t) {
      const float easier = (static_cast<float>(place[static_cast<size_t>(t)]) + 0.5f) / known;
      const float odds_of_it = pace + tilt * (1 - 2 * easier);
      selected[t] = rho.is_known(t) && static_cast<float>(lot(ids, t, draw)) * 0x1p-24f < odds_of_it;
    }
  });
}

void select_as_many(const FloatRows& difficulty, int64_t count, const Ids& ids, const Draw& draw,
                    const std::vector<bool>& others, const std::vector<int64_t>& dialogues, bool* selected) {
  const auto taken = std::ranges::count(others, true);
  with_difficulties(difficulty, count, [&](const auto& rho) {
    const auto mark = [&](const std::vector<uint32_t>& place) {
      for (int64_t t = 0; t < count; ++t) selected[t] = rho.is_known(t) && place[static_cast<size_t>(t)] < taken;
    };
    if (ids.data == nullptr) return mark(places(rho.keys(true)));
    std::vector<uint32_t> lots(static_cast<size_t>(count));
    for (int64_t t = 0; t < count; ++t) lots[static_cast<size_t>(t)] = rho.is_known(t) ? lot(ids, t, draw) : kUnknown;
    if (dialogues.empty()) return mark(places(lots));
    mark(places(turns_of(lots, ids, draw, others, dialogues)));
  });
}

std::vector<bool> up_to(const FloatRows& difficulty, int64_t count, double threshold) {
  return with_difficulties(difficulty, count, [&](const auto& rho) {
    const auto most = static_cast<std::decay_t<decltype(rho[0])>>(threshold);
    std::vector<bool> found(static_cast<size_t>(count));
    for (int64_t t = 0; t < count; ++t) found[static_cast<size_t>(t)] = rho[t] <= most;
    return found;
  });
}

}  // namespace spcl
