"""emotion_transitions: the published loops, the best plain PyTorch, `torch.compile` and ours, beside the bandwidth.

Dialogues of 1 to 19 utterances by up to four speakers, seven classes as unequal as those of MELD. The counts come from
the call itself, so its surprisal waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from spcl_fast import backends, ops, reference

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Settings
from .providers import emotion_transitions as forms
from .providers.compiled import compiled
from .providers.floors import copy_floor, read_floor

C = 7
SHARES = (0.47, 0.12, 0.03, 0.07, 0.17, 0.03, 0.11)  # of the classes
EXACT = Tolerance(0.0)
TOLERANCES = {
    "counts": EXACT,
    "same_speaker_shifts": EXACT,
    "cross_speaker_shifts": EXACT,
    "num_speakers": EXACT,
    "difficulty": Tolerance(1e-6),
    "surprisal": Tolerance(1e-6, 1e-6),
}
# `bincount` has a result whose size depends on data, which `torch.compile(fullgraph=True)` does not take.
COMPILED = [name for name in forms.FORMS if name.endswith("scatter")]


def make_problem(D: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Labels, speakers and offsets of D dialogues of ten utterances in the mean."""
    generator = torch.Generator(device).manual_seed(0)
    lengths = torch.randint(1, 20, (D,), generator=generator, device=device)
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    T = int(offsets[-1])
    labels = torch.multinomial(torch.tensor(SHARES, device=device), T, replacement=True, generator=generator)
    return labels, torch.randint(forms.SPEAKERS, (T,), generator=generator, device=device), offsets


def _rivals(problem: tuple[Tensor, Tensor, Tensor], settings: Settings) -> Iterator[Contender]:
    threads = settings.both_threads
    yield Contender("published", "loops", lambda: lambda: forms.published(*problem, C))
    for name, form in forms.FORMS.items():

        def make(form: Callable[..., forms.Outputs] = form) -> Call:
            return lambda: form(*problem, C)

        yield Contender("eager", name, make, threads=threads)
    if settings.compile:
        for name in COMPILED:

            def make_compiled(form: Callable[..., forms.Outputs] = forms.FORMS[name]) -> Call:
                function = compiled(form)
                return lambda: function(*problem, C)

            yield Contender("compile", name, make_compiled, threads=threads, may_fail=True)


def traffic_of(labels: Tensor, speakers: Tensor, offsets: Tensor) -> int:
    """Labels, speakers and offsets are read; a surprisal an utterance and four results a dialogue written."""
    T, D = labels.shape[0], offsets.shape[0] - 1
    return (16 + 4) * T + (8 + 28) * D


def build_cell(D: int, settings: Settings) -> Cell:
    """One number of dialogues, with everybody who competes on it."""
    problem = make_problem(D)
    T = problem[0].shape[0]
    expected = reference.emotion_transitions(*problem, C, similarity=None)._asdict()
    expected = Expected({name: value.double() for name, value in expected.items()}, TOLERANCES)
    threads = (settings.threads,)
    traffic = traffic_of(*problem)
    note = f"backend {backends.choose('emotion_transitions', None, problem[0].device, needs_grad=False)}"

    def ours() -> Call:
        return lambda: ops.emotion_transitions(*problem, C)._asdict()

    contenders = [
        *_rivals(problem, settings),
        Contender("ours", "op", ours, "ours", settings.both_threads, note=note),
        copy_floor(traffic, threads),
        *read_floor(traffic, threads),
    ]
    size = {"T": T, "D": D, "C": C, "dtype": "int64"}
    return Cell(f"D=1e{len(str(D)) - 1}", size, contenders, expected, traffic)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A batch, a corpus, and a large one: about ten utterances a dialogue."""
    return [partial(build_cell, D, settings) for D in ((10_000,) if settings.quick else (100, 10_000, 100_000))]


def scaling(T: int) -> tuple[Call, int]:
    """The op, and the bytes it reads and writes; of about T utterances."""
    problem = make_problem(T // 10)
    return lambda: ops.emotion_transitions(*problem, C)._asdict(), traffic_of(*problem)
