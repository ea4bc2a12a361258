#include "cuda/difficulty_histogram.h"

#include <torch/csrc/stable/library.h>

#include "torch/cuda/device_call.h"

namespace spcl {
namespace {

constexpr const char* kOp = "difficulty_histogram";

Tensor difficulty_histogram_on_device(const Tensor& difficulty, const Tensor& prefix, int64_t level) {
  const DeviceCall call(kOp, difficulty);
  call.require("prefix", prefix);
  const HistogramInput input = checked_histogram(kOp, difficulty, prefix, level);
  Tensor histogram = call.empty({input.buckets()}, ScalarType::Long);
  auto* counts = static_cast<int64_t*>(histogram.mutable_data_ptr());
  call.zero(counts, input.buckets() * static_cast<int64_t>(sizeof *counts));
  difficulty_histogram_cuda(input, static_cast<const int64_t*>(prefix.const_data_ptr()), counts, call.stream());
  call.check_launches();
  return histogram;
}

}  // namespace
}  // namespace spcl

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, SPCL_DEVICE_KEY, m) {
  m.impl("difficulty_histogram", TORCH_BOX(&spcl::difficulty_histogram_on_device));
}
