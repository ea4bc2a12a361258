"""Small ragged problems of every op, with the float64 reference of each: what the checks of correctness go through.

A case is made on the host and moved to the device, so that hardly any kernel runs there but ours. The calls never wait
for the device and allocate nothing but their results; they stand for whatever a training loop would do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spcl_fast import ops, reference

from .. import (
    bench_modality_scores,
    bench_multiview_hardness,
    bench_self_paced_step,
    bench_self_paced_weights,
    bench_window_coherence,
)
from ..agreement import Expected, Tolerance
from ..harness import Call

LENGTHS = (7, 1, 0, 12, 4, 33, 0, 2, 18)
HALVES = (torch.bfloat16, torch.float16)
EXACT = Tolerance(0.0)


@dataclass(frozen=True)
class Case:
    """One call of one op.

    make: given a backend, the call; it is on the device already.
    needs_grad: whether the backend must have a gradient of this op.
    """

    op: str
    name: str
    make: Callable[[str], Call]
    expected: Expected
    needs_grad: bool = False


def every_case(device: str) -> Iterator[Case]:
    """All of them, op by op."""
    for cases in (_scores, _spread, _coherence, _transitions, _order, _weights, _super_loss, _hardness, _step):
        yield from cases(device)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ragged(device: str, lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    """Offsets of dialogues, some of them empty."""
    return torch.tensor((0, *lengths)).cumsum(0).to(device)


def on(device: str, expected: Mapping[str, Tensor], tolerances: Mapping[str, Tolerance], ties: Any = None) -> Expected:
    """What is expected, where it will be compared."""
    ties = None if ties is None else ties.to(device)
    return Expected({name: x.detach().to(device) for name, x in expected.items()}, tolerances, ties)


def with_gradient(function: Callable[[Tensor], Mapping[str, Tensor]], x: Tensor, of: Mapping[str, Tensor]) -> Call:
    """The call of a differentiable op, forward and backward."""
    leaf = x.detach().clone().requires_grad_()

    def call() -> dict[str, Tensor]:
        outputs = dict(function(leaf))
        names = [name for name in outputs if name in of]
        (gradient,) = torch.autograd.grad(
            [outputs[n] for n in names], leaf, [of[n].to(outputs[n].dtype) for n in names]
        )
        return outputs | {"gradient": gradient}

    return call


def _scores(device: str) -> Iterator[Case]:
    tolerances = bench_modality_scores.TOLERANCES
    kinds = [
        (77, 3, 7, torch.float32),
        (77, 1, 7, torch.bfloat16),
        (40, 2, 33, torch.float16),
        (20, 3, 5, torch.float64),
    ]
    kinds += [
        (5, 2, 1500, torch.float32),
        (9, 2, 1, torch.float32),
        (300, 3, 2, torch.float32),
        (0, 3, 7, torch.float32),
    ]
    for T, M, C, dtype in kinds:
        generator = _generator(T)
        z = (2 * torch.randn(M, T, C, generator=generator)).to(dtype)
        labels = torch.randint(C, (T,), generator=generator)
        present = torch.rand(M, T, generator=generator) < 0.9
        if T > 8:  # one that is ignored, one bad label, one bad logit
            labels[3], labels[5], z[0, 7, 0] = -100, C + 4, float("nan")
        name = f"T={T}, M={M}, C={C}, {str(dtype)[6:]}"
        exact = reference.modality_scores(z.double(), labels, present=present)._asdict()
        inputs = z.to(device), labels.to(device)
        options = {"present": present.to(device)}

        def forward(backend: str, inputs: Any = inputs, options: Any = options) -> Call:
            return lambda: ops.modality_scores(*inputs, **options, backend=backend)._asdict()

        yield Case("modality_scores", name, forward, on(device, exact, tolerances))
        if C == 1 or T == 0:
            continue  # nothing to differentiate
        leaf = z.double().requires_grad_()
        of = {name: torch.randn(M, T, generator=generator) for name in exact}
        scores = reference.modality_scores(leaf, labels, present=present)._asdict()
        (gradient,) = torch.autograd.grad(list(scores.values()), leaf, [of[n].double() for n in scores])
        near = Tolerance(5e-6, torch.finfo(dtype).eps if dtype in HALVES else 2e-6)
        weights = {name: x.to(device) for name, x in of.items()}

        def both(backend: str, inputs: Any = inputs, options: Any = options, of: Any = weights) -> Call:
            score = partial(_scored, labels=inputs[1], backend=backend, **options)
            return with_gradient(score, inputs[0], of)

        expected = on(device, {**exact, "gradient": gradient}, tolerances | {"gradient": near})
        yield Case("modality_scores", f"{name}, backward", both, expected, needs_grad=True)


def _scored(z: Tensor, labels: Tensor, backend: str, present: Tensor) -> dict[str, Tensor]:
    return ops.modality_scores(z, labels, present=present, backend=backend)._asdict()


def _spread(device: str) -> Iterator[Case]:
    offsets = ragged(device)
    confidence = torch.rand(3, sum(LENGTHS), generator=_generator())
    present = torch.rand(3, sum(LENGTHS), generator=_generator(1)) < 0.8
    for aggregate in ("sum", "mean"):
        options = {"aggregate": aggregate}
        exact = reference.modality_spread(confidence.double(), offsets.cpu(), present=present, **options)
        x, seen = confidence.to(device), present.to(device)

        def make(backend: str, x: Tensor = x, seen: Tensor = seen, options: Any = options) -> Call:
            return lambda: {"spread": ops.modality_spread(x, offsets, present=seen, **options, backend=backend)}

        yield Case("modality_spread", aggregate, make, on(device, {"spread": exact}, {"spread": Tolerance(1e-5, 1e-5)}))


def _coherence(device: str) -> Iterator[Case]:
    tolerances = {"coherence": Tolerance(5e-7, 5e-7)}
    gradients = bench_window_coherence.GRADIENT
    for F, dtype, source in (
        *((256, torch.float32, "embedding"), (256, torch.bfloat16, "embedding"), (5, torch.float32, "embedding")),
        *((130, torch.float64, "embedding"), (7, torch.float32, "prediction")),
    ):
        e = torch.randn(3, sum(LENGTHS), F, generator=_generator(F)).to(dtype)
        weight = torch.randn(sum(LENGTHS), generator=_generator(1))
        e[1, 4] = 0.0 if source == "embedding" else 1.0
        leaf = e.double().requires_grad_()
        offsets = ragged("cpu")
        exact = reference.window_coherence(leaf, offsets, window=5, source=source)
        (gradient,) = torch.autograd.grad(exact, leaf, weight.double())
        x, where, of = e.to(device), offsets.to(device), {"coherence": weight.to(device)}

        def form(x: Tensor, backend: str, where: Tensor = where, source: str = source) -> dict[str, Tensor]:
            return {"coherence": ops.window_coherence(x, where, window=5, source=source, backend=backend)}

        def forward(backend: str, x: Tensor = x, form: Any = form) -> Call:
            return lambda: form(x, backend)

        def both(backend: str, x: Tensor = x, of: Any = of, form: Any = form) -> Call:
            return with_gradient(partial(form, backend=backend), x, of)

        name = f"F={F}, {str(dtype)[6:]}, {source}"
        yield Case("window_coherence", name, forward, on(device, {"coherence": exact}, tolerances))
        near = gradients.get(dtype, Tolerance(1e-8, 1e-4))
        near = Tolerance(max(near.absolute, 1e-6), near.relative)  # so few features have larger gradients than many
        expected = on(device, {"coherence": exact, "gradient": gradient}, tolerances | {"gradient": near})
        yield Case("window_coherence", f"{name}, backward", both, expected, needs_grad=True)


def _transitions(device: str) -> Iterator[Case]:
    from ..bench_emotion_transitions import TOLERANCES

    T, C = sum(LENGTHS), 7
    labels = torch.randint(C, (T,), generator=_generator())
    speakers = torch.randint(-1, 4, (T,), generator=_generator(1))
    labels[::9] = -100
    for name, options in (("DIF", {}), ("WES", {"similarity": torch.rand(C, C, generator=_generator(2))}),
                          ("breaks, by speaker", {"ignored": "break", "by": "speaker"})):  # fmt: skip
        of_64 = {k: v.double() if isinstance(v, Tensor) else v for k, v in options.items()}
        exact = reference.emotion_transitions(labels, speakers, ragged("cpu"), C, **of_64)._asdict()
        inputs = labels.to(device), speakers.to(device), ragged(device), C
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in options.items()}

        def make(backend: str, inputs: Any = inputs, options: Any = moved) -> Call:
            return lambda: ops.emotion_transitions(*inputs, **options, backend=backend)._asdict()

        expected = on(device, {k: x.double() for k, x in exact.items()}, TOLERANCES)
        yield Case("emotion_transitions", name, make, expected)


def _order(device: str) -> Iterator[Case]:
    for T, pace, distinct, dtype in (
        *((1, 1.0, 9, torch.float32), (51, 0.5, 5, torch.float32), (5000, 0.3, 1 << 20, torch.float32)),
        *((4097, 0.999, 3, torch.bfloat16), (3000, 1e-6, 1 << 20, torch.float64)),
    ):
        x = ((torch.randint(distinct, (T,), generator=_generator(T)) - distinct // 2) / distinct).to(dtype)
        x[2::7] = float("nan")
        moved, name = x.to(device), f"T={T}, pace={pace}, {str(dtype)[6:]}"
        top = torch.tensor(0, device=device)

        def threshold(backend: str, x: Tensor = moved, pace: float = pace) -> Call:
            return lambda: {"threshold": ops.difficulty_quantile(x, pace, backend=backend)}

        def select(backend: str, x: Tensor = moved, pace: float = pace) -> Call:
            return lambda: {"selected": ops.select_easiest(x, pace, backend=backend)}

        def count(backend: str, x: Tensor = moved, prefix: Tensor = top) -> Call:
            return lambda: {"histogram": ops.difficulty_histogram(x, prefix, 0, backend=backend)}

        exact = {"histogram": reference.difficulty_histogram(x, torch.tensor(0), 0).double()}
        yield Case("difficulty_histogram", name, count, on(device, exact, {"histogram": EXACT}))
        exact = {"threshold": reference.difficulty_quantile(x.double(), pace)}
        yield Case("difficulty_quantile", name, threshold, on(device, exact, {"threshold": EXACT}))
        exact = {"selected": reference.select_easiest(x, pace).double()}
        yield Case("select_easiest", name, select, on(device, exact, {"selected": EXACT}))


def _weights(device: str) -> Iterator[Case]:
    for scheme, numbers in bench_self_paced_weights.SCHEMES.items():
        rho = torch.rand(1001, generator=_generator())
        rho[5] = float("nan")
        groups = torch.randint(7, (1001,), generator=_generator(1))
        parameters: dict[str, Any] = {**numbers, **({"groups": groups} if scheme == "spld" else {})}
        exact = reference.self_paced_weights(rho.double(), 0.5, scheme=scheme, **parameters)
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in parameters.items()}
        rho = rho.to(device)

        def make(backend: str, x: Tensor = rho, scheme: str = scheme, of: Any = moved) -> Call:
            return lambda: {"weight": ops.self_paced_weights(x, 0.5, scheme=scheme, **of, backend=backend)}

        near = EXACT if scheme in ("hard", "spld") else Tolerance(3e-4 if scheme == "polynomial" else 2e-6)
        yield Case("self_paced_weights", scheme, make, on(device, {"weight": exact}, {"weight": near}))


def _super_loss(device: str) -> Iterator[Case]:
    near = {"value": Tolerance(2e-6, 2e-6), "weight": Tolerance(2e-6)}
    for dtype in (torch.float32, torch.float64, *HALVES):
        loss = (4 * torch.rand(1001, generator=_generator())).to(dtype)
        loss[5] = float("nan")
        exact = reference.super_loss(loss.double(), 1.5, regularization=0.5)
        rounded = torch.finfo(dtype).eps if dtype in HALVES else 0.0
        tolerances = {name: Tolerance(t.absolute, t.relative + rounded) for name, t in near.items()}
        expected = on(device, exact._asdict(), tolerances)
        moved, of = loss.to(device), {"value": torch.ones(1001, device=device)}
        both = on(
            device, {**exact._asdict(), "gradient": exact.weight}, tolerances | {"gradient": tolerances["weight"]}
        )

        def form(x: Tensor, backend: str) -> dict[str, Tensor]:
            return ops.super_loss(x, 1.5, regularization=0.5, backend=backend)._asdict()

        def forward(backend: str, x: Tensor = moved, form: Any = form) -> Call:
            return lambda: form(x, backend)

        def backward(backend: str, x: Tensor = moved, form: Any = form, of: Any = of) -> Call:
            return with_gradient(partial(form, backend=backend), x, of)

        name = str(dtype)[6:]
        yield Case("super_loss", name, forward, expected)
        yield Case("super_loss", f"{name}, backward", backward, both, needs_grad=True)


def _hardness(device: str) -> Iterator[Case]:
    near = bench_multiview_hardness.TOLERANCES | {"scaling": Tolerance(1e-5, 1e-6)}
    for T, M, F, dtype in (
        *((77, 3, 256, torch.float32), (77, 3, 256, torch.bfloat16), (40, 2, 33, torch.float16)),
        *((20, 8, 5, torch.float64), (9, 3, 1500, torch.float32), (0, 3, 7, torch.float32)),
    ):
        g = _generator(T)
        sizes = (M, M, M, M * (M - 1) // 2)
        kinds = [(2 * torch.randn(n, T, F, generator=g)).to(dtype) for n in sizes]
        present, valid = torch.rand(M, T, generator=g) < 0.5, torch.rand(T, generator=g) < 0.9
        if T > 8:
            kinds[2][0, 3, 0], kinds[3][-1, 5, -1] = float("nan"), float("-inf")
        exact = reference.multiview_hardness(*(part.double() for part in kinds), present, valid=valid)._asdict()
        inputs = [part.to(device) for part in (*kinds, present)]
        flags = valid.to(device)

        def make(backend: str, inputs: Any = inputs, flags: Tensor = flags) -> Call:
            return lambda: ops.multiview_hardness(*inputs, valid=flags, backend=backend)._asdict()

        name = f"T={T}, M={M}, F={F}, {str(dtype)[6:]}"
        yield Case("multiview_hardness", name, make, on(device, exact, near))


def _step(device: str) -> Iterator[Case]:
    for C, dtype in (
        (6, torch.float32),
        (7, torch.bfloat16),
        (33, torch.float32),
        (6, torch.float16),
        (7, torch.float64),
    ):
        for backward in (False, True):
            problem = bench_self_paced_step.make_problem(LENGTHS, C, backward, dtype)
            expected = on(device, problem.expected.outputs, problem.expected.tolerances, problem.expected.ties)
            moved = problem._replace(
                logits=problem.logits.to(device), labels=problem.labels.to(device), offsets=problem.offsets.to(device)
            )

            def make(backend: str, problem: Any = moved, backward: bool = backward) -> Call:
                return bench_self_paced_step.step_call(
                    partial(bench_self_paced_step.ours, backend=backend), problem, stacked=False, backward=backward
                )

            name = f"C={C}, {str(dtype)[6:]}{', backward' if backward else ''}"
            yield Case("self_paced_step", name, make, expected, needs_grad=backward)
