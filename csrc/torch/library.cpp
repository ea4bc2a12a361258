#include <torch/csrc/stable/library.h>

#include <string>

#include "cpu/isa.h"
#include "torch/ops.h"

namespace {

std::string instruction_set() { return spcl::isa_name(spcl::isa()); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, CompositeExplicitAutograd, m) {
  m.impl("instruction_set", TORCH_BOX(&instruction_set));
}

STABLE_TORCH_LIBRARY_IMPL(spcl_fast, CPU, m) {
  m.impl("difficulty_histogram", TORCH_BOX(&spcl::difficulty_histogram_cpu));
  m.impl("difficulty_quantile", TORCH_BOX(&spcl::difficulty_quantile_cpu));
  m.impl("modality_scores", TORCH_BOX(&spcl::modality_scores_cpu));
  m.impl("modality_scores_out", TORCH_BOX(&spcl::modality_scores_out_cpu));
  m.impl("emotion_transitions", TORCH_BOX(&spcl::emotion_transitions_cpu));
  m.impl("extended_difficulty", TORCH_BOX(&spcl::extended_difficulty_cpu));
  m.impl("modality_scores_backward", TORCH_BOX(&spcl::modality_scores_backward_cpu));
  m.impl("modality_spread", TORCH_BOX(&spcl::modality_spread_cpu));
  m.impl("multiview_hardness", TORCH_BOX(&spcl::multiview_hardness_cpu));
  m.impl("select_easiest", TORCH_BOX(&spcl::select_easiest_cpu));
  m.impl("select_by_odds", TORCH_BOX(&spcl::select_by_odds_cpu));
  m.impl("select_as_many", TORCH_BOX(&spcl::select_as_many_cpu));
  m.impl("self_paced_weights", TORCH_BOX(&spcl::self_paced_weights_cpu));
  m.impl("super_loss", TORCH_BOX(&spcl::super_loss_cpu));
  m.impl("self_paced_step", TORCH_BOX(&spcl::self_paced_step_cpu));
  m.impl("update_running_scores", TORCH_BOX(&spcl::update_running_scores_cpu));
  m.impl("window_coherence", TORCH_BOX(&spcl::window_coherence_cpu));
  m.impl("window_coherence_out", TORCH_BOX(&spcl::window_coherence_out_cpu));
  m.impl("window_coherence_backward", TORCH_BOX(&spcl::window_coherence_backward_cpu));
}
