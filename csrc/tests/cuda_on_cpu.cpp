// What libspcl_fast_cuda_on_cpu.so has of its own: the ops that no kernel of the CUDA library does.

#include <torch/csrc/stable/library.h>

#include <string>

namespace {

std::string instruction_set() { return "CUDA on the CPU"; }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, CompositeExplicitAutograd, m) {
  m.impl("instruction_set", TORCH_BOX(&instruction_set));
}
