#include "cpu/difficulty_histogram.h"

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/for_parts.h"
#include "torch/inputs.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "difficulty_histogram";

}  // namespace

Tensor difficulty_histogram_cpu(const Tensor& difficulty, const Tensor& prefix, int64_t level) {
  isa();  // throws here, not on a worker thread
  const HistogramInput input = checked_histogram(kOp, difficulty, prefix, level);
  Tensor histogram = new_tensor({input.buckets()}, ScalarType::Long);
  difficulty_histogram(input, load_as<int64_t>(static_cast<const char*>(prefix.const_data_ptr())), on_torch_threads,
                       static_cast<int64_t*>(histogram.mutable_data_ptr()));
  return histogram;
}

}  // namespace spcl
