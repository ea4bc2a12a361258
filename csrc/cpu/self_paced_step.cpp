#include "cpu/self_paced_step.h"

#include <cstdint>
#include <cstring>

#include "cpu/intrinsics.h"
#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/self_paced_step_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {
namespace {

/// `read(t)` is the label of utterance t.
template <class Read>
int64_t decode(const StepBatch& batch, int64_t begin, int64_t end, int32_t* labels, const Read& read) {
  const int64_t num_classes = batch.num_classes, ignore_index = batch.ignore_index;
  int64_t bad = 0;
  for (int64_t t = begin; t < end; ++t) {
    const int64_t y = read(t);
    const bool is_class = y >= 0 && y < num_classes;
    labels[t - begin] = is_class && y != ignore_index ? static_cast<int32_t>(y) : -1;
    bad += !is_class && y != ignore_index;
  }
  return bad;
}

}  // namespace

int64_t step_labels(const StepBatch& batch, int64_t begin, int64_t end, int32_t* labels) {
  if (batch.labels_type == IntegerType::kInt64 && batch.labels_stride == sizeof(int64_t)) {
    return decode(batch, begin, end, labels, [&](int64_t t) {
      return load_as<int64_t>(batch.labels + t * static_cast<int64_t>(sizeof(int64_t)));
    });
  }
  return decode(batch, begin, end, labels,
                [&](int64_t t) { return load_integer(batch.labels_type, batch.labels + t * batch.labels_stride); });
}

int64_t step_candidates(const StepBatch& batch, int64_t begin, int64_t end, int32_t* labels) {
  step_labels(batch, begin, end, labels);
  int64_t candidates = 0;
  for (int64_t t = begin; t < end; ++t) {
    bool has_any = batch.present == nullptr;
    for (int64_t m = 0; !has_any && m < batch.modalities; ++m) {
      has_any = batch.present[m * batch.present_modality_stride + t * batch.present_stride] != 0;
    }
    candidates += labels[t - begin] >= 0 && has_any;
  }
  return candidates;
}

void step_dialogues(const StepBatch& batch, const int64_t* offsets, int64_t first, int64_t last, StepWork& work) {
  work.sums.bad_label += step_labels(batch, offsets[first], offsets[last], work.labels);
  SPCL_ON_BEST_ISA(step_dialogues(batch, offsets, first, last, work));
}

void step_score_part(const StepBatch& batch, int64_t begin, int64_t end, StepWork& work) {
  work.sums.bad_label += step_labels(batch, begin, end, work.labels);
  SPCL_ON_BEST_ISA(step_score_part(batch, begin, end, work));
}

void step_spread(const StepBatch& batch, int64_t dialogue, double* sums, const int64_t* known, int64_t scored) {
  SPCL_ON_BEST_ISA(step_spread(batch, dialogue, sums, known, scored));
}

void step_weigh_part(const StepBatch& batch, int64_t dialogue, int64_t begin, int64_t end, StepWork& work) {
  step_labels(batch, begin, end, work.labels);
  SPCL_ON_BEST_ISA(step_weigh_part(batch, dialogue, begin, end, work));
}

}  // namespace spcl
