"""Registers the libraries given with this Python's torch: `load.py libspcl_fast.so libspcl_fast_cuda.so`."""

import sys

import torch

OPS = (
    *("modality_scores", "modality_scores_out", "modality_scores_backward", "modality_spread"),
    *("window_coherence", "window_coherence_out", "window_coherence_backward", "emotion_transitions"),
    "multiview_hardness",
    *(
        "difficulty_histogram",
        "difficulty_quantile",
        "select_easiest",
        "self_paced_weights",
        "self_paced_step",
        "self_paced_step_backward",
    ),
)

for library in sys.argv[1:]:
    torch.ops.load_library(library)
missing = [op for op in OPS if not torch._C._dispatch_has_kernel_for_dispatch_key(f"spcl_fast::{op}", "CUDA")]
print(f"torch {torch.__version__}, CUDA {torch.version.cuda}: {len(OPS) - len(missing)} of {len(OPS)} ops on CUDA")
if torch.cuda.is_initialized():
    missing.append("loading started CUDA")
sys.exit(f"missing: {', '.join(missing)}" if missing else 0)
