#include "cpu/lots.h"

#include <string>

#include "torch/check.h"
#include "torch/inputs.h"
#include "torch/new_tensor.h"
#include "torch/ops.h"

namespace spcl {
namespace {

/// What both selections are given, checked.
struct Call {
  FloatRows difficulty;
  int64_t count;
  Ids ids;
  Draw draw;
};

Call checked_call(const char* op, const Tensor& difficulty, const std::optional<Tensor>& ids, const Tensor& epoch,
                  int64_t seed) {
  Call call{};
  call.difficulty = checked_difficulty(op, difficulty);
  call.count = difficulty.size(0);
  SPCL_CHECK(call.difficulty.type == FloatType::kFloat32 || call.difficulty.type == FloatType::kFloat64, op,
             "difficulty must be float32 or float64", toString(difficulty.scalar_type()));
  SPCL_CHECK(call.count <= UINT32_MAX, op, "utterances must be fewer than 2^32", call.count);
  if (ids) {
    const IntegersInput given = checked_integers(op, "ids", *ids, call.count);
    call.ids = {given.data, given.type, given.stride};
  }
  SPCL_CHECK(epoch.dim() == 0 && epoch.scalar_type() == ScalarType::Long, op, "epoch must be a 0-dim int64 tensor",
             shape_text(epoch) + " of " + toString(epoch.scalar_type()));
  call.draw = {load_as<int64_t>(checked_extent(op, "epoch", epoch).begin), seed};
  return call;
}

/// The number of a 0-dim floating point tensor.
double checked_number(const char* op, const char* name, const Tensor& tensor) {
  SPCL_CHECK(tensor.dim() == 0, op, std::string(name) + " must be a 0-dim tensor", shape_text(tensor));
  return load_float(float_type(op, name, tensor.scalar_type()), checked_extent(op, name, tensor).begin);
}

bool* data_of(const Tensor& selected) { return static_cast<bool*>(selected.mutable_data_ptr()); }

}  // namespace

Tensor select_by_odds_cpu(const Tensor& difficulty, const Tensor& ids, const Tensor& epoch, int64_t seed,
                          const Tensor& pace, const Tensor& tilt) {
  constexpr const char* op = "select_by_odds";
  const Call call = checked_call(op, difficulty, ids, epoch, seed);
  const Odds odds{checked_number(op, "pace", pace), checked_number(op, "tilt", tilt)};
  Tensor selected = new_tensor({call.count}, ScalarType::Bool);
  select_by_odds(call.difficulty, call.count, call.ids, call.draw, odds, data_of(selected));
  return selected;
}

Tensor select_as_many_cpu(const Tensor& difficulty, const std::optional<Tensor>& ids, const Tensor& epoch, int64_t seed,
                          const Tensor& threshold, const std::optional<Tensor>& instead_of,
                          const std::optional<Tensor>& offsets) {
  constexpr const char* op = "select_as_many";
  const Call call = checked_call(op, difficulty, ids, epoch, seed);
  const double limit = checked_number(op, "threshold", threshold);
  std::vector<bool> others;
  if (instead_of) {
    SPCL_CHECK(
        instead_of->scalar_type() == ScalarType::Bool && instead_of->dim() == 1 && instead_of->size(0) == call.count,
        op, "instead_of must be bool [T]", shape_text(*instead_of));
    const char* given = checked_extent(op, "instead_of", *instead_of).begin;
    others.resize(static_cast<size_t>(call.count));
    for (int64_t t = 0; t < call.count; ++t) others[static_cast<size_t>(t)] = given[t * instead_of->stride(0)] != 0;
  } else {
    others = up_to(call.difficulty, call.count, limit);
  }
  std::vector<int64_t> dialogues;
  if (offsets) {
    SPCL_CHECK(ids.has_value(), op, "dialogues need ids", "none");
    dialogues = checked_offsets(op, *offsets, call.count);
    if (call.count == 0) dialogues.clear();
  }
  Tensor selected = new_tensor({call.count}, ScalarType::Bool);
  select_as_many(call.difficulty, call.count, call.ids, call.draw, others, dialogues, data_of(selected));
  return selected;
}

}  // namespace spcl
