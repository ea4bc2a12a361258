#pragma once

// Numbers one after the other, 16 bytes to a thread.

#include <cstdint>
#include <initializer_list>

namespace spcl {
namespace on_device {

template <class Real>
struct alignas(16) Piece {
  static constexpr int size = 16 / sizeof(Real);
  Real values[size];
};

/// How many pieces `count` numbers are at addresses that are multiples of 16; none where one is not.
template <class Real>
int64_t whole_pieces(int64_t count, std::initializer_list<const void*> addresses) {
  for (const void* address : addresses) {
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) return 0;
  }
  return count / Piece<Real>::size;
}

}  // namespace on_device
}  // namespace spcl
