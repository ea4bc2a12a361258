"""The difficulty that BSS orders utterances by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spcl_fast import ops
from spcl_fast.difficulty._scaling import MinMax
from spcl_fast.difficulty.measurer import Difficulty, StepInputs, ordered_embeddings
from spcl_fast.ops import _check
from spcl_fast.ops._window_coherence import SOURCES


class BssDifficulty(Difficulty):
    """`(1 - cos)~ + (0.9 sum_m CE_m + 0.1 CE_joint)~`, both scaled to [0, 1] (arXiv 2501.01470, code).

    cos is the mean cosine between the modalities of the utterance, CE_m the loss of a modality alone. The paper scales
    over the training set: with `scale="batch"` that is what happens when the whole set is measured at once; in a
    training loop `scale="running"` scales by the smallest and largest values met in training so far, this batch
    included. Either way the difficulty of an utterance depends on others, which is why it is called batch-relative.
    What is constant scales to 0. In [0, 2].

    Args:
        unimodal: weight of `sum_m CE_m`, in [0, 1]; the joint loss has the rest.
        source: "embedding" or "prediction", of `ops.window_coherence`; the latter needs no embeddings.
        scale: "batch" or "running".

    Example:
        >>> import torch
        >>> from spcl_fast.difficulty import BssDifficulty, StepInputs
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[2.0, 0.0], [2.0, 0.0]]])
        >>> inputs = StepInputs(logits, torch.tensor([0, 0]), torch.tensor([0, 2]))
        >>> BssDifficulty(source="prediction")(inputs).tolist()  # the modalities agree on the first, and are right
        [0.0, 2.0]
    """

    is_batch_relative = True

    def __init__(self, *, unimodal: float = 0.9, source: str = "embedding", scale: str = "batch") -> None:
        super().__init__()
        self.unimodal = _check.number("BssDifficulty", "unimodal", unimodal, "lie in [0, 1]", lambda x: 0 <= x <= 1)
        _check.choice("BssDifficulty", "source", source, SOURCES)
        _check.choice("BssDifficulty", "scale", scale, ("batch", "running"))
        self.source = source
        self.scale = scale
        self.needs = frozenset({"modalities", "embeddings"} if source == "embedding" else {"modalities"})
        self.incoherence_range = MinMax(running=scale == "running")
        self.loss_range = MinMax(running=scale == "running")

    @property
    def config(self) -> dict[str, Any]:
        """Weight, source and scale."""
        return {"unimodal": self.unimodal, "source": self.source, "scale": self.scale}

    @torch.no_grad()
    def forward(self, inputs: StepInputs) -> Tensor:
        """The sum of the two scaled terms, `[T]`; NaN where an utterance is not scored.

        An utterance without two modalities that can be compared has no incoherence: its first term is 0. A modality
        that is not present adds no loss. Class weights and label smoothing are in neither loss.
        """
        unimodal = ops.modality_scores(
            inputs.logits,
            inputs.labels,
            ignore_index=inputs.ignore_index,
            present=inputs.present,
            backend=inputs.backend,
        ).loss
        # Without what the loss that trains may have and those of the modalities do not.
        joint = inputs._replace(class_weight=None, label_smoothing=0.0).step("loss").utterance_loss
        if inputs.present is not None:
            unimodal = torch.where(inputs.present, unimodal, 0.0)
        loss = self.unimodal * unimodal.sum(0) + (1 - self.unimodal) * joint
        coherence = ops.window_coherence(
            inputs.logits if self.source == "prediction" else ordered_embeddings("BssDifficulty", inputs),
            inputs.offsets,
            window=1,
            source=self.source,
            present=inputs.present,
            backend=inputs.backend,
        )
        incoherence = torch.where(loss.isnan(), loss, 1 - coherence)  # what is not scored sets no range
        first = self.incoherence_range(incoherence, inputs.process_group)
        return torch.where(first.isnan(), 0.0, first) + self.loss_range(loss, inputs.process_group)
