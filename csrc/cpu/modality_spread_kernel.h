// The kernel, for the instruction set being compiled (see cpu/every_isa.h).

#include "cpu/lanes.h"
//
#include "cpu/sum16.h"
#include "math/modality_spread.h"

namespace spcl {
namespace SPCL_ISA {

/// Copies rows [begin, end) with NaN for what does not count; returns how many utterances count.
///
/// An utterance counts when it has a modality and none of those it has is NaN.
template <class Input, class Real>
int64_t counted_rows(const SpreadBatch& batch, int64_t begin, int64_t end, Real* rows, Real* usable) {
  const int64_t count = end - begin;
  constexpr Real nan = static_cast<Real>(__builtin_nan(""));
  for (int64_t i = 0; i < count; ++i) usable[i] = batch.present == nullptr ? Real{1} : Real{};
  for (int64_t m = 0; m < batch.modalities; ++m) {
    const char* values = batch.confidence + m * batch.modality_stride + begin * batch.stride;
    Real* row = rows + m * kSpreadRows;
    for (int64_t i = 0; i < count; ++i) row[i] = static_cast<Real>(widen(load_as<Input>(values + i * batch.stride)));
    if (batch.present == nullptr) {
      for (int64_t i = 0; i < count; ++i) usable[i] = row[i] == row[i] ? usable[i] : nan;
      continue;
    }
    const char* flags = batch.present + m * batch.present_modality_stride + begin * batch.present_stride;
    for (int64_t i = 0; i < count; ++i) {
      const bool is_present = flags[i * batch.present_stride] != 0;
      if (is_present) usable[i] = row[i] == row[i] ? usable[i] + 1 : nan;
      if (!is_present) row[i] = nan;
    }
  }
  int64_t scored = 0;
  for (int64_t i = 0; i < count; ++i) scored += usable[i] > 0;
  for (int64_t m = 0; m < batch.modalities; ++m) {
    Real* row = rows + m * kSpreadRows;
    for (int64_t i = 0; i < count; ++i) row[i] = usable[i] > 0 ? row[i] : nan;
  }
  return scored;
}

template <class Input, class Real>
void modality_spread(const SpreadBatch& batch, int64_t dialogue, int64_t begin, int64_t end, void* work, double* sums,
                     int64_t* known) {
  Real* rows = static_cast<Real*>(work);
  int64_t scored = 0;
  for (int64_t m = 0; m < batch.modalities; ++m) sums[m] = 0, known[m] = 0;
  for (int64_t first = begin; first < end; first += kSpreadRows) {
    const int64_t last = end - first < kSpreadRows ? end : first + kSpreadRows;
    scored += counted_rows<Input>(batch, first, last, rows, rows + batch.modalities * kSpreadRows);
    for (int64_t m = 0; m < batch.modalities; ++m) {
      const SumOfKnown sum = sum_of_known(rows + m * kSpreadRows, last - first);
      sums[m] += sum.total;
      known[m] += sum.count;
    }
  }
  static_cast<Real*>(batch.spread)[dialogue] =
      static_cast<Real>(spread_of_dialogue(sums, known, batch.modalities, scored, batch.of_means));
}

void modality_spread(const SpreadBatch& batch, int64_t dialogue, int64_t begin, int64_t end, void* work, double* sums,
                     int64_t* known) {
  switch (batch.type) {
    case FloatType::kFloat16:
      return modality_spread<Float16, float>(batch, dialogue, begin, end, work, sums, known);
    case FloatType::kBFloat16:
      return modality_spread<BFloat16, float>(batch, dialogue, begin, end, work, sums, known);
    case FloatType::kFloat32:
      return modality_spread<float, float>(batch, dialogue, begin, end, work, sums, known);
    case FloatType::kFloat64:
      return modality_spread<double, double>(batch, dialogue, begin, end, work, sums, known);
  }
}

}  // namespace SPCL_ISA
}  // namespace spcl
