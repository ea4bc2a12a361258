#pragma once

#include <cstdint>

namespace spcl {

/// CRC-32C (Castagnoli, as of RFC 3720) of `size` bytes that follow those whose CRC is `before`, with the machine's
/// instruction for it where there is one.
uint32_t crc32c(const void* data, int64_t size, uint32_t before = 0);

}  // namespace spcl
