#pragma once

#include <cstdint>
#include <new>
#include <vector>

#include "cpu/dtypes.h"

namespace spcl {

/// A batch of whole dialogues. Strides are in bytes.
struct CoherenceBatch {
  const FloatRows* rows;  // [modalities], each [utterances, columns], of one type
  int64_t modalities;     // in [2, max_modalities]
  int64_t columns;        // at least 1
  bool of_predictions;    // the rows are logits, and their softmax is compared

  const char* present;  // [modalities, utterances] bytes; nullptr: every modality is present
  int64_t present_modality_stride, present_stride;

  const int64_t* offsets;  // [dialogues + 1], from 0 to the number of utterances, never falling
  int64_t dialogues;
  int64_t half;  // utterances on either side of the window's middle, less than the longest dialogue has

  static constexpr int64_t max_modalities = 256;
};

/// Half of a window that is no wider than the longest dialogue needs: more would change nothing but the memory taken.
int64_t coherence_half(int64_t window, const std::vector<int64_t>& offsets);

/// Utterances worked on at a time. No result depends on it.
inline int64_t coherence_rows(const CoherenceBatch& batch) { return batch.half < 512 ? 1024 : 2 * batch.half; }

/// Bytes of memory a thread needs, aligned to 64 bytes.
int64_t coherence_work_bytes(const CoherenceBatch& batch);

/// That memory.
class CoherenceWork {
 public:
  explicit CoherenceWork(const CoherenceBatch& batch)
      : memory_(::operator new(static_cast<size_t>(coherence_work_bytes(batch)), alignment)) {}
  ~CoherenceWork() { ::operator delete(memory_, alignment); }
  CoherenceWork(const CoherenceWork&) = delete;
  CoherenceWork& operator=(const CoherenceWork&) = delete;

  void* get() const { return memory_; }

 private:
  static constexpr std::align_val_t alignment{64};
  void* const memory_;
};

/// Coherence of the utterances [begin, end), into contiguous arrays over all utterances: double for float64 rows, float
/// for the others. `counts`, unless it is nullptr, gets the defined c in each window, 0 where the coherence is NaN.
void window_coherence(const CoherenceBatch& batch, int64_t begin, int64_t end, void* work, void* coherence,
                      int64_t* counts);

/// What the gradient is made of, and where it goes.
struct CoherenceGradient {
  FloatRows of_coherence;  // [utterances]
  const int64_t* counts;   // of the forward pass
  char* of_rows;           // [modalities, utterances, columns], contiguous, of the type of the rows
  int64_t utterances;
};

/// The gradient in the rows [begin, end).
void window_coherence_backward(const CoherenceBatch& batch, int64_t begin, int64_t end, void* work,
                               const CoherenceGradient& gradient);

}  // namespace spcl
