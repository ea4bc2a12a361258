// The kernel, for the instruction set being compiled (see cpu/every_isa.h).

#include "cpu/lanes.h"
//
#include "cpu/row_tile.h"
#include "cpu/sum16.h"
#include "cpu/widen.h"
#include "cpu/window_sums.h"
#include "math/window_coherence.h"
//
#include "cpu/dots16.h"
//
#include "cpu/coherence_block.h"
//
#include "cpu/coherence_memory.h"
//
#include "cpu/coherence_embeddings.h"
#include "cpu/coherence_predictions.h"

namespace spcl {
namespace SPCL_ISA {

int64_t coherence_work_bytes(const CoherenceBatch& batch) {
  int64_t bytes = 0;
  CoherenceMemory(batch, nullptr, &bytes);
  return bytes;
}

/// The dialogue that row `t` lies in.
inline int64_t dialogue_of(const CoherenceBatch& batch, int64_t t) {
  int64_t low = 0, high = batch.dialogues;  // offsets[low] <= t < offsets[high]
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (batch.offsets[middle] <= t ? low : high) = middle;
  }
  return low;
}

/// Calls `work(first, last, begin, end)` for every dialogue [first, last) with its rows [begin, end) of those given.
template <class Work>
SPCL_HD void each_dialogue(const CoherenceBatch& batch, int64_t dialogue, int64_t begin, int64_t end, Work work) {
  for (; begin < end; ++dialogue) {
    const int64_t last = batch.offsets[dialogue + 1], here = last < end ? last : end;
    if (begin < here) work(batch.offsets[dialogue], last, begin, here);
    begin = begin < here ? here : begin;
  }
}

template <class Rows>
void find_coherence(const CoherenceBatch& batch, CoherenceMemory& memory, int64_t begin, int64_t end, double* result) {
  Rows rows(batch, memory);
  for (int64_t t = begin; t < end; t += Rows::block_rows) {
    const int count = end - t < Rows::block_rows ? static_cast<int>(end - t) : Rows::block_rows;
    rows.read(t, count);
    memory.block.coherence(result + (t - begin), count);
  }
}

template <class Rows>
void window_coherence(const CoherenceBatch& batch, int64_t begin, int64_t end, void* work,
                      typename Rows::Real* coherence, int64_t* counts) {
  CoherenceMemory memory(batch, work);
  const int64_t half = batch.half, step = coherence_rows(batch);
  double* const c = memory.values;
  int64_t from = 0, to = 0;  // c holds rows [from, to): a window's neighbours are kept from step to step
  for (int64_t first = begin; first < end; first += step) {
    const int64_t last = end - first < step ? end : first + step;
    const int64_t dialogue = dialogue_of(batch, first), begins = batch.offsets[dialogue];
    const int64_t ends = batch.offsets[dialogue_of(batch, last - 1) + 1];
    const int64_t new_from = first - half < begins ? begins : first - half;
    const int64_t new_to = ends - last < half ? ends : last + half;
    if (first == begin) from = to = new_from;
    std::memmove(c, c + (new_from - from), static_cast<size_t>(to - new_from) * sizeof(double));
    from = new_from;
    find_coherence<Rows>(batch, memory, to, new_to, c + (to - from));
    to = new_to;

    const auto term_of = [&](int64_t t) __attribute__((always_inline)) {
      const double value = c[t - from];
      const bool is_defined = value <= 1.0;  // neither NaN nor the Inf of a fault
      return WindowTerm{is_defined ? value : 0.0, is_defined ? 1.0 : 0.0};
    };
    const auto take = [&](int64_t t, WindowTerm sum) __attribute__((always_inline)) {
      const double count = c[t - from] == faulty_coherence() ? 0.0 : sum.count;
      coherence[t] = static_cast<typename Rows::Real>(count > 0 ? sum.value / count : undefined_coherence());
      if (counts != nullptr) counts[t] = static_cast<int64_t>(count);
    };
    each_dialogue(batch, dialogue, first, last, [&](int64_t d, int64_t e, int64_t s, int64_t t) {
      window_sums(d, e, s, t, half, memory.tails, term_of, take);
    });
  }
}

template <class Rows>
void window_coherence_backward(const CoherenceBatch& batch, int64_t begin, int64_t end, void* work,
                               const CoherenceGradient& gradient) {
  CoherenceMemory memory(batch, work);
  Rows rows(batch, memory);
  const FloatRows& of_result = gradient.of_coherence;
  // d(loss)/d(c_t) is the sum of d(loss)/d(C_s) / n_s over the windows s that hold t: those of the window of t.
  const auto term_of = [&](int64_t t) __attribute__((always_inline)) {
    const auto count = static_cast<double>(gradient.counts[t]);
    const double g = load_float(of_result.type, of_result.data + t * of_result.row_stride);
    return WindowTerm{count > 0 ? g / count : 0.0, 0.0};
  };
  for (int64_t first = begin; first < end; first += coherence_rows(batch)) {
    const int64_t last = end - first < coherence_rows(batch) ? end : first + coherence_rows(batch);
    double* const of_c = memory.values;
    const auto take = [&](int64_t t, WindowTerm sum) { of_c[t - first] = sum.value; };
    each_dialogue(batch, dialogue_of(batch, first), first, last, [&](int64_t d, int64_t e, int64_t s, int64_t t) {
      window_sums(d, e, s, t, batch.half, memory.tails, term_of, take);
    });
    for (int64_t t = first; t < last; t += Rows::block_rows) {
      const int count = last - t < Rows::block_rows ? static_cast<int>(last - t) : Rows::block_rows;
      rows.read(t, count);
      memory.block.find_coefficients(of_c + (t - first), count);
      rows.write_gradient(t, count, gradient);
    }
  }
}

/// Calls `work` with the type of the rows.
template <class Work>
SPCL_HD void with_rows(const CoherenceBatch& batch, Work work) {
  const auto of_type = [&]<class Input>(Input) {
    if (batch.of_predictions) return work(static_cast<PredictionRows<Input>*>(nullptr));
    return work(static_cast<EmbeddingRows<Input>*>(nullptr));
  };
  switch (batch.rows[0].type) {
    case FloatType::kFloat16:
      return of_type(Float16{});
    case FloatType::kBFloat16:
      return of_type(BFloat16{});
    case FloatType::kFloat32:
      return of_type(float{});
    case FloatType::kFloat64:
      return of_type(double{});
  }
}

void window_coherence(const CoherenceBatch& batch, int64_t begin, int64_t end, void* work, void* coherence,
                      int64_t* counts) {
  with_rows(batch, [&]<class Rows>(Rows*) {
    window_coherence<Rows>(batch, begin, end, work, static_cast<typename Rows::Real*>(coherence), counts);
  });
}

void window_coherence_backward(const CoherenceBatch& batch, int64_t begin, int64_t end, void* work,
                               const CoherenceGradient& gradient) {
  with_rows(batch, [&]<class Rows>(Rows*) { window_coherence_backward<Rows>(batch, begin, end, work, gradient); });
}

}  // namespace SPCL_ISA
}  // namespace spcl
