#include "cpu/self_paced_weights.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "cpu/isa.h"
#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/ops.h"

namespace spcl {
namespace {

constexpr const char* kOp = "self_paced_weights";
constexpr int64_t kElements = 1 << 15;  // a thread takes at least this many

/// The groups of a scheme that ranks, an integer for each difficulty.
Groups checked_groups(const std::optional<Tensor>& groups, const Tensor& difficulty) {
  SPCL_CHECK(groups, kOp, "groups of spld must be integers of the shape of difficulty", "none");
  SPCL_CHECK(std::ranges::equal(groups->sizes(), difficulty.sizes()), kOp, "groups must have the shape of difficulty",
             shape_text(*groups) + " beside " + shape_text(difficulty));
  SPCL_CHECK(groups->is_contiguous(), kOp, "groups must be contiguous", "strides");
  const IntegerType type = integer_type(kOp, "groups", groups->scalar_type());
  return {checked_extent(kOp, "groups", *groups).begin, type, static_cast<int64_t>(groups->element_size())};
}

}  // namespace

Tensor self_paced_weights_cpu(const Tensor& difficulty, const std::optional<Tensor>& threshold_tensor,
                              std::optional<double> threshold, int64_t scheme, double parameter,
                              const std::optional<Tensor>& groups) {
  isa();  // throws here, not on a worker thread
  const ScalarType type = difficulty.scalar_type();
  SPCL_CHECK(type == ScalarType::Float || type == ScalarType::Double, kOp, "difficulty must be float32 or float64",
             toString(type));
  SPCL_CHECK(difficulty.is_contiguous(), kOp, "difficulty must be contiguous", "strides");
  const char* data = checked_extent(kOp, "difficulty", difficulty).begin;
  const std::optional<double> lambda = checked_threshold(kOp, threshold_tensor, threshold);
  SPCL_CHECK(lambda, kOp, "threshold must be a number or a tensor", "none");
  const Weighting weighting = checked_weighting(kOp, scheme, parameter, lambda);

  Tensor weight = torch::stable::empty(difficulty.sizes(), type);
  char* out = static_cast<char*>(weight.mutable_data_ptr());
  const FloatType floats = float_type(kOp, "difficulty", type);
  if (weighting.scheme == Scheme::kSpld) {
    spld_weights(floats, data, out, difficulty.numel(), weighting, checked_groups(groups, difficulty));
    return weight;
  }
  const int64_t itemsize = itemsize_of(type);
  torch::stable::parallel_for(0, difficulty.numel(), kElements, [&](int64_t begin, int64_t end) {
    self_paced_weights(floats, data + begin * itemsize, out + begin * itemsize, end - begin, weighting);
  });
  return weight;
}

}  // namespace spcl
