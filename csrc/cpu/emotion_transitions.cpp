#include "cpu/emotion_transitions.h"

#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

#define SPCL_KERNEL_SOURCE "cpu/emotion_transitions_kernel.h"
#include "cpu/every_isa.h"

namespace spcl {

void transitions_of_dialogues(const TransitionsBatch& batch, int64_t first, int64_t last, TransitionsWork& work) {
  SPCL_ON_BEST_ISA(transitions_of_dialogues(batch, first, last, work));
}

void fill_changes(const FloatRows& similarity, int64_t num_classes, double* changes) {
  SPCL_ON_BEST_ISA(fill_changes(similarity, num_classes, changes));
}

void fill_surprisals(const TransitionsBatch& batch, const int64_t* counts, const double* from_class, void* surprisals) {
  SPCL_ON_BEST_ISA(fill_surprisals(batch, counts, from_class, surprisals));
}

void surprisal_of_utterances(const TransitionsBatch& batch, const int64_t* counts, const double* from_class,
                             const void* surprisals, int64_t begin, int64_t end) {
  SPCL_ON_BEST_ISA(surprisal_of_utterances(batch, counts, from_class, surprisals, begin, end));
}

}  // namespace spcl
