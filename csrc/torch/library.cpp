#include <torch/csrc/stable/library.h>

#include <string>

#include "cpu/isa.h"
#include "torch/ops.h"

namespace {

std::string instruction_set() { return spcl::isa_name(spcl::isa()); }

}  // namespace

STABLE_TORCH_LIBRARY(spcl_fast, m) {
  m.def("instruction_set() -> str");
  m.def("modality_scores(Tensor[] logits, Tensor labels, Tensor? present, int ignore_index) -> Tensor");
  m.def(
      "modality_scores_out(Tensor[] logits, Tensor labels, Tensor? present, int ignore_index, "
      "Tensor(a!) loss, Tensor(b!) confidence, Tensor(c!) entropy, Tensor(d!) margin) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, CompositeExplicitAutograd, m) {
  m.impl("instruction_set", TORCH_BOX(&instruction_set));
}

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, CPU, m) {
  m.impl("modality_scores", TORCH_BOX(&spcl::modality_scores_cpu));
  m.impl("modality_scores_out", TORCH_BOX(&spcl::modality_scores_out_cpu));
}
