#include "cpu/offsets.h"

#include <cstring>
#include <string>

namespace spcl {
namespace {

/// Whether offsets read so far as they are come without a fault; one pass that a compiler makes vectors of.
bool are_right(const std::vector<int64_t>& values, int64_t utterances) {
  bool fall = false;
  for (size_t d = 1; d < values.size(); ++d) fall |= values[d] < values[d - 1];
  return !fall && values.front() == 0 && values.back() == utterances;
}

}  // namespace

Fault read_offsets(IntegerType type, const char* data, int64_t stride, int64_t utterances,
                   std::vector<int64_t>& values) {
  const size_t size = values.size();
  if (size == 0) return {"offsets must have at least one entry", "none"};
  if (type == IntegerType::kInt64 && stride == sizeof(int64_t)) {
    std::memcpy(values.data(), data, size * sizeof(int64_t));
    if (are_right(values, utterances)) return {};
  }
  int64_t before = 0;
  for (size_t d = 0; d < size; ++d) {
    const int64_t value = load_integer(type, data + static_cast<int64_t>(d) * stride);
    const bool fits =
        value >= before && value <= utterances && (d > 0 || value == 0) && (d + 1 < size || value == utterances);
    if (!fits) {
      const std::string rows = std::to_string(utterances);
      std::string rule = "offsets must never fall and stay within [0, " + rows + "]";
      if (d + 1 == size) rule = "offsets must end at the number of utterances, " + rows;
      if (d == 0) rule = "offsets must start at 0";
      const std::string after = d == 0 ? "" : ", after " + std::to_string(before);
      return {rule, std::to_string(value) + " at position " + std::to_string(d) + after};
    }
    values[d] = before = value;
  }
  return {};
}

}  // namespace spcl
