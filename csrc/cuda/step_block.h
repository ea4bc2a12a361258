#pragma once

// One block of the step: the dialogues that start in its span of rows, a group of them at a time.
//
// A group goes through three phases with a barrier between them. The rows are scored: confidences, loss and the
// gradient as if every weight were 1. The dialogues are summed: spreads, which wait in the place of the difficulties.
// The rows are weighed: difficulty, weight, totals, and the gradient of those whose weight is not 1. What a phase
// leaves for the next is in the results themselves, which the block has just written and so finds in a cache.
//
// Rows go by chunks of 32 that start at multiples of 32, a warp a chunk, so that whole ones are aligned. What a row or
// a dialogue comes to does not depend on the chunk, the group or the block.

#include "cuda/block_offsets.h"
#include "cuda/self_paced_step.h"
#include "cuda/spread_sums.h"
#include "cuda/weight_rule.h"

namespace spcl {
namespace on_device {

inline constexpr int kStepThreads = DialogueOffsets::kThreads;
inline constexpr int kStepWarps = kStepThreads / 32;
/// Rows whose dialogues are taken together, in a group or until one of them is longer.
inline constexpr int64_t kStepGroupRows = 512;

/// What a block adds up: these, then the confidences and the selected confidences of every modality.
enum StepTotal { kScored, kSelected, kNonfinite, kBadLabel, kBadOffset, kUndefined, kLoss, kWeightedLoss, kWeightSum };
inline constexpr int kStepTotals = 9;

/// How a launch is laid out.
struct StepPlan {
  int64_t span;  // rows of which a block takes the dialogues that start there; a multiple of 32
  unsigned blocks;
  int tile_slots;        // modalities staged together; 0: rows are read where they are
  int spread_slots;      // dialogues that a warp sums before it works out their spreads
  int64_t rows_bytes;    // shared memory of the scorer's tiles
  int64_t shared_bytes;  // all of it: tiles or sums of dialogues, then totals
  double* partials;      // [totals, blocks]

  SPCL_HD static int64_t num_totals(int64_t modalities) { return kStepTotals + 2 * modalities; }
};

/// The results of a call with their type. Nothing is held here that would have to stay in registers.
template <class Real>
struct StepResults {
  const StepCall& call;

  __device__ __forceinline__ Real& weight(int64_t row) const { return static_cast<Real*>(call.weight)[row]; }
  __device__ __forceinline__ Real& difficulty(int64_t row) const { return static_cast<Real*>(call.difficulty)[row]; }
  __device__ __forceinline__ Real& loss(int64_t row) const { return static_cast<Real*>(call.utterance_loss)[row]; }
  __device__ __forceinline__ Real& confidence(int64_t m, int64_t row) const {
    return static_cast<Real*>(call.confidence)[m * call.logits.rows + row];
  }
  __device__ __forceinline__ Real& spread(int64_t dialogue) const { return static_cast<Real*>(call.spread)[dialogue]; }
  __device__ __forceinline__ bool has_gradient() const { return call.gradient != nullptr; }
  __device__ __forceinline__ Real* gradient(int64_t row) const {
    return static_cast<Real*>(call.gradient) + row * call.logits.columns;
  }
};

/// A class weight, or NaN for what is no proper one.
__device__ __forceinline__ double proper_class_weight(const StepCall& call, int64_t c) {
  const double w = call.class_weight.at(c);
  return w >= 0 && w - w == 0 ? w : __builtin_nan("");
}

/// The first chunk of 32 rows of this thread's warp among those of the rows from `begin`.
__device__ __forceinline__ int64_t first_chunk(int64_t begin) { return begin / 32 * 32 + threadIdx.x / 32 * 32; }

/// Adds what the lanes of a warp counted or summed to a total of that warp. Every lane takes part.
__device__ __forceinline__ void add_count(double* total, unsigned count) {
  count = __reduce_add_sync(kWholeWarp, count);
  if (threadIdx.x % 32 == 0) *total += static_cast<double>(count);
}
__device__ __forceinline__ void add_sum(double* total, double sum) {
  sum = sum_of_group<32>(sum);
  if (threadIdx.x % 32 == 0) *total += sum;
}

/// Multiplies the gradient of a chunk's rows by `factor`, a number of each lane, neighbours writing neighbours.
template <int classes, class Real>
__device__ __forceinline__ void scale_gradient(Real* rows, int64_t num_classes, Real factor) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (!__any_sync(kWholeWarp, factor != 1)) return;
  const auto scale = [](Real& value, Real by) { value = by == 0 ? Real{} : value * by; };
  if constexpr (classes > 0) {
#pragma unroll
    for (int k = 0; k < classes; ++k) {
      const int index = k * 32 + lane;
      const Real of_row = __shfl_sync(kWholeWarp, factor, index / classes);
      if (of_row != 1) scale(rows[index], of_row);
    }
  } else {
    for (int row = 0; row < 32; ++row) {
      const Real of_row = __shfl_sync(kWholeWarp, factor, row);
      if (of_row == 1) continue;
      for (int64_t c = lane; c < num_classes; c += 32) scale(rows[row * num_classes + c], of_row);
    }
  }
}

/// Difficulties, weights, totals and gradient of the rows [begin, end), whose difficulties hold their spreads.
template <int classes, class Real>
__device__ __forceinline__ void weigh_rows(const StepResults<Real>& to, int64_t begin, int64_t end, double* totals) {
  const StepCall& call = to.call;
  const WeightRule<Real> weight_of(call.weighting);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t modalities = call.logits.modalities;
  unsigned scored = 0, undefined = 0, selected = 0;
  double loss_sum = 0, weighted_loss = 0, weight_sum = 0;
#pragma unroll 1
  for (int64_t chunk = first_chunk(begin); chunk < end; chunk += kStepThreads) {
    const int64_t row = chunk + lane;
    Real factor = 1;
    if (row >= begin && row < end) {
      const Real loss = to.loss(row);
      Real rho = measured(call.measure, to.difficulty(row), loss);
      if (call.extra_difficulty.data != nullptr) rho += static_cast<Real>(call.extra_difficulty.at(row));
      const bool is_scored = loss == loss;
      const Real v = call.selects_all ? static_cast<Real>(is_scored) : weight_of(rho);
      to.difficulty(row) = rho;
      to.weight(row) = v;
      scored += is_scored;
      undefined += is_scored && rho != rho;
      selected += v > 0;
      loss_sum += is_scored ? static_cast<double>(loss) : 0.0;
      weighted_loss += v > 0 ? static_cast<double>(v * loss) : 0.0;
      weight_sum += static_cast<double>(v);
      if (is_scored) factor = v;  // the gradient of the others is 0
    }
    if (to.has_gradient()) scale_gradient<classes>(to.gradient(chunk), call.logits.columns, factor);
  }
  add_count(totals + kScored, scored);
  add_count(totals + kUndefined, undefined);
  add_count(totals + kSelected, selected);
  add_sum(totals + kLoss, loss_sum);
  add_sum(totals + kWeightedLoss, weighted_loss);
  add_sum(totals + kWeightSum, weight_sum);
#pragma unroll 1
  for (int64_t first = 0; first < modalities; first += kSpreadModalities) {
    double all[kSpreadModalities] = {}, chosen[kSpreadModalities] = {};
#pragma unroll 1
    for (int64_t chunk = first_chunk(begin); chunk < end; chunk += kStepThreads) {
      const int64_t row = chunk + lane;
      if (row < begin || row >= end) continue;
      const Real v = to.weight(row);
#pragma unroll
      for (int i = 0; i < kSpreadModalities; ++i) {
        if (first + i >= modalities) continue;
        const Real p = to.confidence(first + i, row);
        all[i] += p == p ? static_cast<double>(p) : 0.0;
        chosen[i] += p == p ? static_cast<double>(p * v) : 0.0;
      }
    }
#pragma unroll
    for (int i = 0; i < kSpreadModalities; ++i) {
      if (first + i >= modalities) continue;
      add_sum(totals + kStepTotals + first + i, all[i]);
      add_sum(totals + kStepTotals + modalities + first + i, chosen[i]);
    }
  }
}

/// The rows [begin, end) that no dialogue has, which offsets at fault can leave.
template <class Real>
__device__ __forceinline__ void leave_out_rows(const StepResults<Real>& to, int64_t begin, int64_t end,
                                               double* totals) {
  if (begin >= end) return;
  const StepCall& call = to.call;
  unsigned bad_label = 0;
#pragma unroll 1
  for (int64_t row = begin + threadIdx.x; row < end; row += kStepThreads) {
    bool is_bad = false;
    call.labels.class_of(row, is_bad);
    bad_label += is_bad;
    to.weight(row) = 0;
    to.difficulty(row) = nan_of<Real>();
    to.loss(row) = nan_of<Real>();
    for (int64_t m = 0; m < call.logits.modalities; ++m) to.confidence(m, row) = nan_of<Real>();
  }
  add_count(totals + kBadLabel, bad_label);
  if (!to.has_gradient()) return;
  const int64_t classes = call.logits.columns;
#pragma unroll 1
  for (int64_t k = begin * classes + threadIdx.x; k < end * classes; k += kStepThreads) to.gradient(0)[k] = 0;
}

/// Writes what the block came to. `totals` are those of this thread's warp; those of the warps lie behind one another.
__device__ __forceinline__ void write_totals(const double* totals, const StepPlan& plan, int64_t num_totals) {
  const double* first = totals - threadIdx.x / 32 * num_totals;
  __syncthreads();
  for (int64_t k = threadIdx.x; k < num_totals; k += kStepThreads) {
    double total = 0;
    for (int w = 0; w < kStepWarps; ++w) total += first[w * num_totals + k];
    plan.partials[k * gridDim.x + blockIdx.x] = total;
  }
}

/// `Scorer` scores rows: see cuda/step_fixed_rows.h and cuda/step_any_rows.h.
template <class Scorer>
__global__ void __launch_bounds__(kStepThreads, Scorer::kBlocks)
    self_paced_step_fwd_kernel(const __grid_constant__ StepCall call, const __grid_constant__ StepPlan plan) {
  typedef typename Scorer::Real Real;
  using Starts = int64_t[kStepThreads];
  SPCL_SHARED(Starts, starts);
  SPCL_SHARED(int, shared_count);
  SPCL_DYNAMIC_SHARED(char, memory);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int64_t modalities = call.logits.modalities, num_totals = StepPlan::num_totals(modalities);
  double* totals = reinterpret_cast<double*>(memory + plan.shared_bytes) - (kStepWarps - warp) * num_totals;
  for (int64_t k = lane; k < num_totals; k += 32) totals[k] = 0;

  const StepResults<Real> to{call};
  const BlockOffsets offsets(call.offsets);
  const Scorer scorer(call, plan, memory);
  if (call.flags) add_count(totals + kBadOffset, offsets.count_faults());

  const int64_t begin = blockIdx.x * plan.span;
  const bool is_last = blockIdx.x == gridDim.x - 1;
  const int64_t end = is_last ? call.logits.rows : begin + plan.span;
  const int64_t last = is_last ? call.offsets.dialogues : offsets.dialogues_before(end);
  int64_t dialogue = offsets.dialogues_before(begin);
  const SpreadSlots slots{memory, plan.spread_slots, modalities};
  while (dialogue < last) {
    if (dialogue + thread <= last) starts[thread] = offsets.at(dialogue + thread);
    __syncthreads();
    const auto is_in_group = [&](int j) {
      return j < kStepThreads - 1 && dialogue + j < last && starts[j] < starts[0] + kStepGroupRows;
    };
    if (is_in_group(thread) && !is_in_group(thread + 1)) shared_count = thread + 1;
    __syncthreads();
    const int count = shared_count;
    const int64_t group_begin = starts[0], group_end = starts[count];
    scorer.score(to, group_begin, group_end, totals);
    __syncthreads();
    spread_dialogues<Real, kStepWarps>(
        slots, count, call.present.data != nullptr, call.of_means,
        [&](int j, int64_t& from, int64_t& until) {
          from = starts[j];
          until = starts[j + 1];
        },
        [&](int64_t m, int64_t row) { return to.confidence(m, row); },
        [&](int64_t row) { return to.loss(row) == to.loss(row); },
        [&](int j, int64_t from, int64_t until, int part, Real spread) {
          if (part == 0) to.spread(dialogue + j) = spread;
          for (int64_t row = from + part; row < until; row += kSpreadLanes) to.difficulty(row) = spread;
        });
    __syncthreads();
    weigh_rows<Scorer::kClasses>(to, group_begin, group_end, totals);
    dialogue += count;
  }
  const int64_t first_row = offsets.at(0), end_row = offsets.at(call.offsets.dialogues);
#pragma unroll 1
  for (int side = 0; side < 2; ++side) {
    const int64_t from = side == 0 ? begin : (end_row > begin ? end_row : begin);
    leave_out_rows(to, from, side == 0 && first_row < end ? first_row : end, totals);
  }
  write_totals(totals, plan, num_totals);
}

}  // namespace on_device
}  // namespace spcl
