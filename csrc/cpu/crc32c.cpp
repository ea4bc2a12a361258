#include "cpu/crc32c.h"

#include <array>
#include <cstddef>
#include <cstring>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"

namespace spcl {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // bits reversed

using Table = std::array<uint32_t, 256>;

/// tables[n][b]: what the byte b becomes when it is followed by n bytes of zeros.
constexpr std::array<Table, 8> byte_tables() {
  std::array<Table, 8> tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (size_t n = 1; n < 8; ++n) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[n - 1][byte];
      tables[n][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr std::array<Table, 8> kTables = byte_tables();

uint64_t load(const unsigned char* data) {
  uint64_t word;
  std::memcpy(&word, data, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  return word;
}

uint32_t add_byte(uint32_t crc, unsigned char byte) { return (crc >> 8) ^ kTables[0][(crc ^ byte) & 0xFF]; }

/// Eight bytes at a time: their tables do not wait for each other.
uint32_t by_tables(uint32_t crc, const unsigned char* data, int64_t size) {
  for (; size >= 8; data += 8, size -= 8) {
    const uint64_t word = load(data) ^ crc;
    crc = 0;
    for (size_t n = 0; n < 8; ++n) crc ^= kTables[7 - n][(word >> (8 * n)) & 0xFF];
  }
  for (; size > 0; ++data, --size) crc = add_byte(crc, *data);
  return crc;
}

#if defined(__x86_64__)

// Bytes of each of three lanes: the instruction takes three cycles, and one can begin in each.
constexpr int64_t kLane = 4096;

/// tables[n][b]: what byte n of a CRC, being b, becomes when the CRC is followed by kLane bytes of zeros.
constexpr std::array<Table, 4> lane_tables() {
  std::array<Table, 4> tables{};
  for (size_t bit = 0; bit < 32; ++bit) {
    uint32_t crc = uint32_t{1} << bit;
    for (int64_t byte = 0; byte < kLane; ++byte) crc = (crc >> 8) ^ kTables[0][crc & 0xFF];
    for (size_t byte = 0; byte < 256; ++byte) {
      if (((byte >> (bit % 8)) & 1) != 0) tables[bit / 8][byte] ^= crc;
    }
  }
  return tables;
}

uint32_t past_lane(const std::array<Table, 4>& tables, uint32_t crc) {
  return tables[0][crc & 0xFF] ^ tables[1][(crc >> 8) & 0xFF] ^ tables[2][(crc >> 16) & 0xFF] ^ tables[3][crc >> 24];
}

__attribute__((target("sse4.2"))) uint32_t by_instruction(uint32_t crc, const unsigned char* data, int64_t size) {
  static const std::array<Table, 4> tables = lane_tables();
  for (; size >= 3 * kLane; data += 3 * kLane, size -= 3 * kLane) {
    uint64_t first = crc, second = 0, third = 0;
    for (int64_t i = 0; i < kLane; i += 8) {
      first = _mm_crc32_u64(first, load(data + i));
      second = _mm_crc32_u64(second, load(data + kLane + i));
      third = _mm_crc32_u64(third, load(data + 2 * kLane + i));
    }
    crc = past_lane(tables, static_cast<uint32_t>(first)) ^ static_cast<uint32_t>(second);
    crc = past_lane(tables, crc) ^ static_cast<uint32_t>(third);
  }
  uint64_t rest = crc;
  for (; size >= 8; data += 8, size -= 8) rest = _mm_crc32_u64(rest, load(data));
  crc = static_cast<uint32_t>(rest);
  for (; size > 0; ++data, --size) crc = add_byte(crc, *data);
  return crc;
}

#endif

}  // namespace

uint32_t crc32c(const void* data, int64_t size, uint32_t before) {
  const auto* bytes = static_cast<const unsigned char*>(data);
#if defined(__x86_64__)
  // Every machine with AVX2 has SSE4.2; the baseline that SPCL_FAST_ISA asks for does without either.
  if (isa() != Isa::kBaseline) return ~by_instruction(~before, bytes, size);
#endif
  return ~by_tables(~before, bytes, size);
}

}  // namespace spcl
