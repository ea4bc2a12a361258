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

/// The place of each key in ascending order, of equals by index: a radix sort of bytes, without those that all share.
template <class Key>
std::vector<uint32_t> places(const std::vector<Key>& keys) {
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
  for (size_t place = 0; place < count; ++place) next[order[place]] = static_cast<uint32_t>(place);
  return next;
}

/// float32 or float64 difficulties, read one by one.
template <class Real>
class Difficulties {
 public:
  typedef std::conditional_t<std::is_same_v<Real, double>, Float64Keys, Float32Keys> Keys;
  typedef typename Keys::Key Key;

  Difficulties(const FloatRows& rows, int64_t count) : rows_(rows), count(count) {}

  Real operator[](int64_t t) const { return load_as<Real>(rows_.data + t * rows_.row_stride); }
  bool is_known(int64_t t) const { return (*this)[t] == (*this)[t]; }

  /// In ascending order, or in descending; NaN has the key of +Inf then.
  std::vector<Key> keys(bool descending) const {
    std::vector<Key> keys(static_cast<size_t>(count));
    for (int64_t t = 0; t < count; ++t) {
      const Real value = descending ? -(*this)[t] : (*this)[t];
      const Real key = is_known(t) ? value : std::numeric_limits<Real>::infinity();
      keys[static_cast<size_t>(t)] = Keys::template key<Key>(__builtin_bit_cast(typename Keys::Bits, key));
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

void select_as_many(const FloatRows& difficulty, int64_t count, const Ids& ids, const Draw& draw, int64_t taken,
                    bool* selected) {
  with_difficulties(difficulty, count, [&](const auto& rho) {
    const auto mark = [&](const std::vector<uint32_t>& place) {
      for (int64_t t = 0; t < count; ++t) selected[t] = rho.is_known(t) && place[static_cast<size_t>(t)] < taken;
    };
    if (ids.data == nullptr) return mark(places(rho.keys(true)));
    std::vector<uint32_t> lots(static_cast<size_t>(count));
    for (int64_t t = 0; t < count; ++t) lots[static_cast<size_t>(t)] = rho.is_known(t) ? lot(ids, t, draw) : 1u << 24;
    mark(places(lots));
  });
}

int64_t count_up_to(const FloatRows& difficulty, int64_t count, double threshold) {
  return with_difficulties(difficulty, count, [&](const auto& rho) {
    const auto most = static_cast<std::decay_t<decltype(rho[0])>>(threshold);
    int64_t found = 0;
    for (int64_t t = 0; t < count; ++t) found += rho[t] <= most;
    return found;
  });
}

}  // namespace spcl
