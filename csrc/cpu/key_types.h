#pragma once

#include "cpu/dtypes.h"
#include "math/float_keys.h"

namespace spcl {

/// Returns use(keys) for the FloatKeys of a type.
template <class Use>
SPCL_HD auto with_keys(FloatType type, const Use& use) {
  switch (type) {
    case FloatType::kFloat16:
      return use(Float16Keys{});
    case FloatType::kBFloat16:
      return use(BFloat16Keys{});
    case FloatType::kFloat32:
      return use(Float32Keys{});
    case FloatType::kFloat64:
      return use(Float64Keys{});
  }
  __builtin_unreachable();
}

}  // namespace spcl
