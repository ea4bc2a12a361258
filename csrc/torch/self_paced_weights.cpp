#include "cpu/self_paced_weights.h"

#include <torch/csrc/stable/ops.h>

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "self_paced_weights";
constexpr int64_t kElements = 1 << 15;  // a thread takes at least this many

}  // namespace

Tensor self_paced_weights_cpu(const Tensor& difficulty, const std::optional<Tensor>& threshold_tensor,
                              std::optional<double> threshold, int64_t scheme) {
  isa();  // throws here, not on a worker thread
  const ScalarType type = difficulty.scalar_type();
  SPCL_CHECK(type == ScalarType::Float || type == ScalarType::Double, kOp, "difficulty must be float32 or float64",
             toString(type));
  SPCL_CHECK(difficulty.is_contiguous(), kOp, "difficulty must be contiguous", "strides");
  SPCL_CHECK(scheme >= 0 && scheme <= static_cast<int64_t>(Scheme::kLogistic), kOp,
             "scheme must be 0 (hard), 1 (linear) or 2 (logistic)", scheme);
  const char* data = checked_extent(kOp, "difficulty", difficulty).begin;
  const std::optional<double> lambda = checked_threshold(kOp, threshold_tensor, threshold);
  SPCL_CHECK(lambda, kOp, "threshold must be a number or a tensor", "none");

  Tensor weight = torch::stable::empty(difficulty.sizes(), type);
  char* out = static_cast<char*>(weight.mutable_data_ptr());
  const int64_t itemsize = itemsize_of(type);
  torch::stable::parallel_for(0, difficulty.numel(), kElements, [&](int64_t begin, int64_t end) {
    self_paced_weights(float_type(kOp, "difficulty", type), data + begin * itemsize, out + begin * itemsize,
                       end - begin, *lambda, static_cast<Scheme>(scheme));
  });
  return weight;
}

}  // namespace spcl
