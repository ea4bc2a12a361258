#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <functional>

namespace spcl {

/// Calls body(begin, end) for parts of [0, count) on torch's threads; what is a single grain stays in this one.
inline void on_torch_threads(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (count <= grain) return body(0, count);
  torch::stable::parallel_for(0, count, grain, body);
}

}  // namespace spcl
