"""Logits by the user's model, a batch of dialogues at a time."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._scoring import OP
from spcl_fast.corpus._slices import slices
from spcl_fast.corpus.store import Corpus, Shard


def load_model(factory: str, checkpoint: str | os.PathLike[str] | None) -> Any:
    """The module that `package.module:factory` makes, with the parameters of a checkpoint.

    The checkpoint is a state_dict, alone or under the key "model" or "state_dict"; only tensors and plain containers
    are ever unpickled.
    """
    from torch import nn

    from spcl_fast.merc.files import load_checkpoint

    name, colon, attribute = factory.partition(":")
    if not (name and colon and attribute):
        raise ValueError(f"model must be package.module:factory (got {factory!r})")
    try:
        make = getattr(importlib.import_module(name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"model {factory}: cannot be imported ({error})") from error
    model = make()
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {factory}: must make a torch.nn.Module (got {type(model).__name__})")
    if checkpoint is not None:
        state: Any = load_checkpoint(Path(checkpoint))
        for key in ("model", "state_dict"):
            state = state[key] if isinstance(state.get(key), dict) else state
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{checkpoint}: does not fit the model ({' '.join(str(error).split())})") from error
    return model


class Predictor:
    """A model in evaluation mode on its device; what it is given and what comes back are copied while it works.

    Args:
        model: called with `(features, batch)` as the backbones of `spcl_fast.merc.models` are: modality -> float32
            `[T, F]`, the stored embeddings or where there are none the stored logits, and a `DialogueBatch`; gives
            modality -> logits `[T, C]`.
        device: where it runs; "auto" for a GPU where there is one.
        batch_utterances: dialogues are taken together until they hold this many.
    """

    def __init__(self, model: Any, device: str, batch_utterances: int) -> None:
        import torch

        from spcl_fast.merc.device import find_device

        self._torch = torch
        self.device = find_device(device)
        self._model = model.to(self.device).eval()
        self._most = batch_utterances

    def outputs(self, corpus: Corpus) -> tuple[tuple[str, ...], int]:
        """Names of the modalities that the model gives logits of, and C, from its answer to the first dialogue."""
        for index, info in enumerate(corpus.shards):
            if info.utterances:
                shard = corpus.shard(index, verify=False)
                first = int(np.flatnonzero(np.diff(shard.offsets))[0])
                found = self._forward(shard, first, first + 1)
                T = int(shard.offsets[first + 1] - shard.offsets[first])
                for name, values in found.items():
                    if not isinstance(values, self._torch.Tensor) or values.dim() != 2 or len(values) != T:
                        got = tuple(values.shape) if isinstance(values, self._torch.Tensor) else type(values).__name__
                        raise ValueError(f"{OP}: the model's {name} must be [{T}, C] (got {got})")
                return tuple(found), int(next(iter(found.values())).shape[1])
        raise ValueError(f"{OP}: a model needs a corpus with utterances (got none)")

    def logits(
        self, shard: Shard, first: int, last: int, modalities: Sequence[str], num_classes: int
    ) -> list[NDArray[np.float32]]:
        """`[T, C]` in float32 of each modality, of the dialogues [first, last) of a shard."""
        torch = self._torch
        is_cuda = self.device.type == "cuda"
        begin, T = int(shard.offsets[first]), int(shard.offsets[last] - shard.offsets[first])
        result = [torch.empty(T, num_classes, pin_memory=is_cuda) for _ in modalities]
        for d, e in slices(shard.offsets, self._most, first, last):
            rows = slice(int(shard.offsets[d]) - begin, int(shard.offsets[e]) - begin)
            if rows.start == rows.stop:
                continue
            found = self._forward(shard, d, e)
            if tuple(found) != tuple(modalities):
                raise ValueError(f"{OP}: the model must give {', '.join(modalities)} (got {', '.join(found)})")
            for target, (name, values) in zip(result, found.items(), strict=True):
                shape = (rows.stop - rows.start, num_classes)
                if tuple(values.shape) != shape:
                    raise ValueError(f"{OP}: the model's {name} must be {shape} (got {tuple(values.shape)})")
                target[rows].copy_(values, non_blocking=is_cuda)  # the next batch is prepared meanwhile
        if is_cuda:
            torch.cuda.synchronize(self.device)
        return [values.numpy() for values in result]

    def _forward(self, shard: Shard, first: int, last: int) -> Mapping[str, Any]:
        from spcl_fast.batch import DialogueBatch

        torch = self._torch
        offsets = shard.offsets[first : last + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        batch = DialogueBatch.from_arrays(shard.label[rows], offsets - offsets[0], speakers=shard.speaker[rows])
        features = {}
        for name, stored in {**shard.logits, **shard.embeddings}.items():
            values = torch.from_numpy(stored[rows].copy())
            values = values.view(torch.bfloat16) if stored.dtype == np.uint16 else values
            values = values.pin_memory() if self.device.type == "cuda" else values
            features[name] = values.to(self.device, non_blocking=True).float()
        with torch.inference_mode():
            found = self._model(features, batch.to(self.device))
        if not isinstance(found, Mapping) or not found:
            raise ValueError(f"{OP}: the model must give a mapping of logits (got {type(found).__name__})")
        return found
