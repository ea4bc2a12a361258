"""RunningScores.update: a dictionary of Python floats, plain PyTorch by index, and ours, on ten million utterances.

Each contender first observes the same few batches, and what it then knows of them is held to the float64 lists of all
observations. What is timed takes another batch in every call, a million observations in turn, so that the rows come
from memory and not from a cache. The dictionary holds no more than it has seen so far, which favours it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from spcl_fast import RunningScores

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Settings
from .providers import running_scores as forms
from .providers.floors import copy_floor
from .sizes import MELD, name_of, require_memory

DECAY, IN_TURN = 0.9, 1 << 20
TOLERANCES = dict.fromkeys(forms.NAMES[:3], Tolerance(2e-6, 2e-6)) | {"variability": Tolerance(1e-5)}
TOLERANCES |= dict.fromkeys(forms.NAMES[4:], Tolerance(0.0))
Observations = tuple[Tensor, ...]


def scores_of(T: int, generator: torch.Generator) -> Observations:
    """Losses, confidences and whether right."""
    loss, confidence = torch.rand(2, T, generator=generator)
    return loss, confidence, torch.rand(T, generator=generator) > 0.4


def known_batches(T: int, N: int) -> list[Observations]:
    """Four batches of the same T utterances."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randperm(T, generator=generator) * (N // T)
    return [(ids, *scores_of(T, generator)) for _ in range(4)]


def batches_in_turn(T: int, N: int) -> list[Observations]:
    """What a shuffled corpus gives."""
    generator = torch.Generator().manual_seed(0)
    count = max(IN_TURN // T, 4)
    columns = torch.randint(N, (count * T,), generator=generator), *scores_of(count * T, generator)
    return list(zip(*(column.split(T) for column in columns), strict=True))


def expected_of(batches: list[Observations]) -> Expected:
    """By the definitions, from all observations at once."""
    losses, confidences, correct = (torch.stack([batch[k].double() for batch in batches]) for k in (1, 2, 3))
    moving = [losses[0], confidences[0]]
    for loss, confidence in zip(losses[1:], confidences[1:], strict=True):
        moving = [DECAY * old + (1 - DECAY) * new for old, new in zip(moving, (loss, confidence), strict=True)]
    forgotten = (correct[:-1] * (1 - correct[1:])).sum(0)
    count = torch.full_like(forgotten, len(batches))
    values = (*moving, confidences.mean(0), confidences.std(0, correction=0), count, forgotten)
    return Expected(dict(zip(forms.NAMES, values, strict=True)), TOLERANCES)


class Ours:
    """`RunningScores` in the words of the forms."""

    def __init__(self, N: int, decay: float, keys: Tensor | None = None) -> None:
        self.scores = RunningScores(N, decay=decay, keys=keys)
        self.update = self.scores.update

    def at(self, ids: Tensor) -> forms.Statistics:
        """What is known of these."""
        return {name: x for name, x in self.scores.at(ids)._asdict().items() if name in forms.NAMES}


def timed(
    new: Callable[[int, float], forms.Store], N: int, known: list[Observations], batches: list[Observations]
) -> Call:
    """An update with the next batch; its outputs are what the known batches led to."""
    store = new(N, DECAY)
    for batch in known:
        store.update(*batch)
    outputs, following = store.at(known[0][0]), cycle(batches)

    def call() -> forms.Statistics:
        store.update(*next(following))
        return outputs

    return call


def bytes_of_dictionary(N: int = 20_000) -> int:
    """Bytes an utterance of Python objects."""
    batches = known_batches(N, N)[:2]
    tracemalloc.start()
    store = forms.Dictionary(N, DECAY)
    for batch in batches:
        store.update(*batch)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken // N


def build_cell(name: str, T: int, N: int, settings: Settings) -> Cell:
    """One size of batch, with everybody who competes on it."""
    require_memory(200 * N)
    known, batches = known_batches(T, N), batches_in_turn(T, N)
    threads = settings.both_threads

    def contender(
        provider: str, form: str, new: Callable[[int, float], forms.Store], size: int, **more: Any
    ) -> Contender:
        make = partial(timed, new, N, known, batches)
        return Contender(provider, form, make, note=f"{size} bytes an utterance", **more)

    keyed = partial(Ours, keys=torch.arange(N))
    traffic = T * (2 * 24 + 8 + 4 + 4 + 1)  # a row is read and written, its observation read
    contenders = [
        contender("dictionary", "tuples of floats", forms.Dictionary, bytes_of_dictionary()),
        contender("eager", "index, columns", forms.Columns, 23, threads=threads),
        contender("eager", "index, rows", forms.Rows, 24, threads=threads),
        contender("ours", "row numbers", Ours, 24, role="ours"),
        contender("ours", "keys", keyed, 32, role="ours"),
        copy_floor(traffic, threads),
    ]
    return Cell(name, {"T": T, "N": N}, contenders, expected_of(known), traffic)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A batch of MELD, one of a thousand utterances, and as many as a rescoring takes at once."""
    N = 100_000 if settings.quick else 10_000_000
    sizes = [("MELD batch", sum(MELD)), (name_of(1000), 1000)] + ([] if settings.quick else [(name_of(10**5), 10**5)])
    return [partial(build_cell, name, T, N, settings) for name, T in sizes]
