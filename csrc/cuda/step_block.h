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

/// A thread's share of the totals.
template <class Real>
struct StepCounts {
  unsigned scored = 0, selected = 0, nonfinite = 0, bad_label = 0, bad_offset = 0, undefined = 0;
  double loss = 0, weighted_loss = 0, weight = 0;
};

/// The results of a call with their type.
template <class Real>
struct StepResults {
  const StepCall& call;
  Real *weight, *difficulty, *utterance_loss, *spread, *gradient;

  __device__ __forceinline__ explicit StepResults(const StepCall& of)
      : call(of),
        weight(static_cast<Real*>(of.weight)),
        difficulty(static_cast<Real*>(of.difficulty)),
        utterance_loss(static_cast<Real*>(of.utterance_loss)),
        spread(static_cast<Real*>(of.spread)),
        gradient(static_cast<Real*>(of.gradient)) {}
  __device__ __forceinline__ Real* confidence(int64_t m) const {
    return static_cast<Real*>(call.confidence) + m * call.logits.rows;
  }
};

/// A class weight, or NaN for what is no proper one.
__device__ __forceinline__ double proper_class_weight(const StepCall& call, int64_t c) {
  const double w = call.class_weight.at(c);
  return w >= 0 && w - w == 0 ? w : __builtin_nan("");
}

/// The first chunk of 32 rows of this thread's warp among those of the rows from `begin`.
__device__ __forceinline__ int64_t first_chunk(int64_t begin) { return begin / 32 * 32 + threadIdx.x / 32 * 32; }

/// Multiplies the gradient of a chunk's rows by `factor`, a number of each lane, neighbours writing neighbours.
template <int classes, class Real>
__device__ __forceinline__ void scale_gradient(Real* gradient, int64_t num_classes, int64_t chunk, Real factor) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (!__any_sync(kWholeWarp, factor != 1)) return;
  const auto scale = [](Real& value, Real by) { value = by == 0 ? Real{} : value * by; };
  if constexpr (classes > 0) {
    Real* rows = gradient + chunk * classes;
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
      for (int64_t c = lane; c < num_classes; c += 32) scale(gradient[(chunk + row) * num_classes + c], of_row);
    }
  }
}

/// Difficulties, weights, totals and gradient of the rows [begin, end), whose difficulties hold their spreads.
template <int classes, class Real>
__device__ __forceinline__ void weigh_rows(const StepResults<Real>& to, const WeightRule<Real>& weight_of,
                                           int64_t begin, int64_t end, double* totals, StepCounts<Real>& counts) {
  const StepCall& call = to.call;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t modalities = call.logits.modalities;
  for (int64_t chunk = first_chunk(begin); chunk < end; chunk += kStepThreads) {
    const int64_t row = chunk + lane;
    Real factor = 1;
    if (row >= begin && row < end) {
      const Real loss = to.utterance_loss[row];
      Real rho = harmonic_mean(to.difficulty[row], loss);
      if (call.extra_difficulty.data != nullptr) rho += static_cast<Real>(call.extra_difficulty.at(row));
      const bool is_scored = loss == loss;
      const Real v = call.selects_all ? static_cast<Real>(is_scored) : weight_of(rho);
      to.difficulty[row] = rho;
      to.weight[row] = v;
      counts.scored += is_scored;
      counts.undefined += is_scored && rho != rho;
      counts.selected += v > 0;
      counts.loss += is_scored ? static_cast<double>(loss) : 0.0;
      counts.weighted_loss += v > 0 ? static_cast<double>(v * loss) : 0.0;
      counts.weight += static_cast<double>(v);
      if (is_scored) factor = v;  // the gradient of the others is 0
    }
    if (to.gradient != nullptr) scale_gradient<classes>(to.gradient, call.logits.columns, chunk, factor);
  }
  const auto plus = [](double a, double b) { return a + b; };
  for (int64_t first = 0; first < modalities; first += kSpreadModalities) {
    double all[kSpreadModalities] = {}, selected[kSpreadModalities] = {};
    for (int64_t chunk = first_chunk(begin); chunk < end; chunk += kStepThreads) {
      const int64_t row = chunk + lane;
      if (row < begin || row >= end) continue;
      const Real v = to.weight[row];
#pragma unroll
      for (int i = 0; i < kSpreadModalities; ++i) {
        if (first + i >= modalities) continue;
        const Real p = to.confidence(first + i)[row];
        all[i] += p == p ? static_cast<double>(p) : 0.0;
        selected[i] += p == p ? static_cast<double>(p * v) : 0.0;
      }
    }
#pragma unroll
    for (int i = 0; i < kSpreadModalities; ++i) {
      if (first + i >= modalities) continue;
      all[i] = over_lanes<32>(all[i], plus);
      selected[i] = over_lanes<32>(selected[i], plus);
      if (lane == 0) {
        totals[kStepTotals + first + i] += all[i];
        totals[kStepTotals + modalities + first + i] += selected[i];
      }
    }
  }
}

/// The rows [begin, end) that no dialogue has, which offsets at fault can leave.
template <class Real>
__device__ __forceinline__ void leave_out_rows(const StepResults<Real>& to, int64_t begin, int64_t end,
                                               StepCounts<Real>& counts) {
  const StepCall& call = to.call;
  for (int64_t row = begin + threadIdx.x; row < end; row += kStepThreads) {
    bool is_bad = false;
    call.labels.class_of(row, is_bad);
    counts.bad_label += is_bad;
    to.weight[row] = 0;
    to.difficulty[row] = nan_of<Real>();
    to.utterance_loss[row] = nan_of<Real>();
    for (int64_t m = 0; m < call.logits.modalities; ++m) to.confidence(m)[row] = nan_of<Real>();
  }
  if (to.gradient == nullptr) return;
  const int64_t classes = call.logits.columns;
  for (int64_t k = begin * classes + threadIdx.x; k < end * classes; k += kStepThreads) to.gradient[k] = 0;
}

/// Writes what the block came to. `totals` are those of this thread's warp, and lie behind one another.
template <class Real>
__device__ __forceinline__ void write_totals(const StepCounts<Real>& counts, double* totals, const StepPlan& plan,
                                             int64_t num_totals) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const unsigned whole[] = {counts.scored,    counts.selected,   counts.nonfinite,
                            counts.bad_label, counts.bad_offset, counts.undefined};
  const double sums[] = {counts.loss, counts.weighted_loss, counts.weight};
#pragma unroll
  for (int k = 0; k < kStepTotals; ++k) {
    const double own = k < kLoss ? static_cast<double>(whole[k]) : sums[k - kLoss];
    const double total = sum_of_group<32>(own);
    if (lane == 0) totals[k] = total;
  }
  __syncthreads();
  for (int64_t k = threadIdx.x; k < num_totals; k += kStepThreads) {
    double total = 0;
    for (int w = 0; w < kStepWarps; ++w) total += totals[(w - warp) * num_totals + k];
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
  for (int64_t k = kStepTotals + lane; k < num_totals; k += 32) totals[k] = 0;

  const StepResults<Real> to(call);
  const WeightRule<Real> weight_of(call.weighting);
  StepCounts<Real> counts;
  const BlockOffsets offsets(call.offsets);
  const Scorer scorer(call, plan, memory);
  if (call.flags) counts.bad_offset = offsets.count_faults();

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
    scorer.score(to, group_begin, group_end, counts);
    __syncthreads();
    spread_dialogues<Real, kStepWarps>(
        slots, count, call.present.data != nullptr, call.of_means,
        [&](int j, int64_t& from, int64_t& until) {
          from = starts[j];
          until = starts[j + 1];
        },
        [&](int64_t m, int64_t row) { return to.confidence(m)[row]; },
        [&](int64_t row) { return to.utterance_loss[row] == to.utterance_loss[row]; },
        [&](int j, int64_t from, int64_t until, int part, Real spread) {
          if (part == 0) to.spread[dialogue + j] = spread;
          for (int64_t row = from + part; row < until; row += kSpreadLanes) to.difficulty[row] = spread;
        });
    __syncthreads();
    weigh_rows<Scorer::kClasses>(to, weight_of, group_begin, group_end, totals, counts);
    dialogue += count;
  }
  const int64_t first_row = offsets.at(0), end_row = offsets.at(call.offsets.dialogues);
  leave_out_rows(to, begin, first_row < end ? first_row : end, counts);
  leave_out_rows(to, end_row > begin ? end_row : begin, end, counts);
  write_totals(counts, totals, plan, num_totals);
}

}  // namespace on_device
}  // namespace spcl
