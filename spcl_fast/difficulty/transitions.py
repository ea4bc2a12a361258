"""How much the emotions of a dialogue change, as difficulty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spcl_fast import ops
from spcl_fast.difficulty.measurer import Difficulty, StepInputs
from spcl_fast.ops import _check
from spcl_fast.ops._emotion_transitions import IGNORED
from spcl_fast.reference.rows import dialogue_of_row, running_offsets


class TransitionDifficulty(Difficulty):
    """DIF or WES of the dialogue, for each of its utterances.

    `DIF = (N_same + N_sp) / (N_u + N_sp)` with the label changes within a speaker's own utterances (MultiDAG+CL,
    arXiv 2402.17269; HCL, arXiv 2112.11718); with `similarity` each change counts by how alike the emotions are, and
    changes between speakers count too: WES (LSDGNN, arXiv 2507.15205; PRC-Emo, arXiv 2511.07061). Formulas and faults:
    `ops.emotion_transitions`. It looks at labels and speakers alone, so it is the same in every epoch. In [0, 1].

    Args:
        similarity: `float[C, C]`, finite, for WES (`merc.emotion_wheel.wheel_similarity` makes the published one);
            None for DIF. Copied.
        ignored: "skip" or "break", of `ops.emotion_transitions`.

    Example:
        >>> import torch
        >>> from spcl_fast.difficulty import StepInputs, TransitionDifficulty
        >>> labels, speakers = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 1])
        >>> inputs = StepInputs(torch.zeros(2, 4, 3), labels, torch.tensor([0, 4]), speakers=speakers)
        >>> [round(x, 3) for x in TransitionDifficulty()(inputs).tolist()]  # (2 + 2) / (4 + 2)
        [0.667, 0.667, 0.667, 0.667]
    """

    similarity: Tensor | None
    needs = frozenset({"speakers", "dialogues"})

    def __init__(self, similarity: Tensor | None = None, *, ignored: str = "skip") -> None:
        super().__init__()
        name = type(self).__name__
        _check.choice(name, "ignored", ignored, IGNORED)
        require_similarity(name, similarity)
        self.ignored = ignored
        self.register_buffer("similarity", None if similarity is None else similarity.detach().clone())

    @property
    def config(self) -> dict[str, Any]:
        """Settings and similarity."""
        return {"ignored": self.ignored, "similarity": None if self.similarity is None else self.similarity.tolist()}

    @torch.no_grad()
    def forward(self, inputs: StepInputs) -> Tensor:
        """The dialogue's DIF or WES, `[T]`; NaN for a row that no dialogue owns, or without a label that counts."""
        z = _check.logits(type(self).__name__, inputs.logits)
        of_dialogues = transitions(inputs, z.C, self.similarity, self.ignored)
        return of_utterances(of_dialogues.difficulty, inputs.offsets, z).to(_check.real(z.dtype))


def require_similarity(name: str, similarity: Tensor | None) -> None:
    """TypeError or ValueError unless it is None or a finite square matrix."""
    if similarity is not None:
        _check.tensor(name, "similarity", similarity, 2, _check.FLOATS, "floating point numbers")
        _check.square_matrix(name, "similarity", similarity, torch.isfinite, "must be finite")


def transitions(
    inputs: StepInputs, num_classes: int, similarity: Tensor | None, ignored: str, counts: Tensor | None = None
) -> ops.EmotionTransitions:
    """`ops.emotion_transitions` of these inputs."""
    if inputs.speakers is None:
        raise ValueError("emotion transitions need speakers= (got none)")
    return ops.emotion_transitions(
        inputs.labels,
        inputs.speakers,
        inputs.offsets,
        num_classes,
        similarity=similarity,
        ignore_index=inputs.ignore_index,
        ignored=ignored,
        counts=counts,
        backend=inputs.backend,
    )


def of_utterances(of_dialogues: Tensor, offsets: Tensor, z: _check.Logits) -> Tensor:
    """The value `[D]` of the dialogue of each utterance, `[T]`; NaN for a row that no dialogue owns."""
    if of_dialogues.numel() == 0:
        return of_dialogues.new_full((z.T,), float("nan"))
    if offsets.device.type == "cpu" and not torch.compiler.is_compiling():  # there the op has seen that they are right
        return of_dialogues.repeat_interleave(offsets.diff(), output_size=z.T)
    dialogue, owned = dialogue_of_row(running_offsets(offsets, z.T), z.T)
    return torch.where(owned, of_dialogues[dialogue], float("nan"))
