"""The cost of a curriculum per epoch: the self-paced learning of CurML and CurBench beside ours.

What is done with the losses of N samples, 1797 (scikit-learn's digits) and a million: the kept rows, a shuffled epoch
of them, soft weights. Then whole epochs on digits, where theirs measures the losses in a pass of its own and ours takes
those of the training pass. And SuperLoss of a batch, theirs by SciPy on the host. Paces let in a whole number of
samples, where both take as many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler, Subset

from spcl_fast import CurriculumSampler, ops, reference
from spcl_fast.thresholds import threshold_at_pace

from . import digits
from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Settings, left_out
from .providers import curml
from .providers.floors import copy_floor, read_floor

N_DIGITS = 1797
SCHEMES = ("linear", "polynomial-3")
SELECTS = {"argsort (CurML)": curml.easiest_by_argsort, "topk (CurBench)": curml.easiest_by_topk}
TAU, REGULARIZATION = math.log(10), 1.0


class _Rows(Mapping[str, Tensor]):
    """Kept rows, put in order when they are compared and not while they are timed."""

    def __init__(self, rows: Any, **others: Tensor) -> None:
        self.rows, self.others = rows, others

    def __getitem__(self, name: str) -> Tensor:
        return torch.as_tensor(self.rows).sort().values if name == "rows" else self.others[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("rows", *self.others))

    def __len__(self) -> int:
        return 1 + len(self.others)


def half_of(N: int) -> float:
    """A pace that takes half of N by both formulas."""
    k = N // 2
    return next(p for p in (k / N, math.nextafter(k / N, 1)) if int(N * p) == k)


def make_losses(N: int) -> Tensor:
    """Losses of a model that is right more often than not: exponential, and no two of them equal in float32."""
    uniform = (torch.randperm(N, generator=torch.Generator().manual_seed(0)).double() + 0.5) / N
    return (-0.7 * torch.log1p(-uniform)).float()


def selection_cell(N: int, settings: Settings) -> Cell:
    """Hard selection: which rows are kept, and a shuffled epoch of them as the numbers that a data set is asked for."""
    losses, pace = make_losses(N), half_of(N)
    k = int(N * pace)
    rows = losses.argsort()[:k].sort().values
    expected = Expected(
        {"rows": rows.double(), "threshold": losses.sort().values[k - 1].double()},
        {"rows": Tolerance(0.0), "threshold": Tolerance(0.0)},
    )
    threads = settings.both_threads
    contenders = []
    for form, select in SELECTS.items():

        def selected(select: Callable[..., curml.Selection] = select) -> Call:
            return lambda: _Rows(*(s := select(losses, pace))[:1], threshold=s.threshold)

        def shuffled(select: Callable[..., curml.Selection] = select) -> Call:
            def call() -> Mapping[str, Tensor]:
                chosen = select(losses, pace)
                subset = Subset(range(N), chosen.rows)  # type: ignore[arg-type]
                return _Rows([subset[i] for i in RandomSampler(subset)], threshold=chosen.threshold)

            return call

        contenders.append(Contender("published", form, selected, threads=threads, group="rows"))
        contenders.append(Contender("published", form, shuffled, threads=threads, group="shuffled"))

    def by_kthvalue() -> Mapping[str, Tensor]:
        threshold = losses.kthvalue(k).values
        return _Rows((losses <= threshold).nonzero().squeeze(-1), threshold=threshold)

    def ours() -> Mapping[str, Tensor]:
        threshold = threshold_at_pace(losses, pace, formula="curml")
        return _Rows(ops.select_easiest(losses, pace).nonzero().squeeze(-1), threshold=threshold)

    def sampled() -> Mapping[str, Tensor]:
        sampler = CurriculumSampler(N, difficulty=losses, pace=pace, formula="curml")
        return _Rows(list(sampler))

    contenders.append(Contender("eager", "kthvalue", lambda: by_kthvalue, threads=threads, group="rows"))
    contenders.append(Contender("ours", "select_easiest", lambda: ours, "ours", threads, group="rows"))
    omits = frozenset({"threshold"})
    contenders.append(
        Contender("ours", "CurriculumSampler", lambda: sampled, "ours", threads, group="shuffled", omits=omits)
    )
    contenders += read_floor(4 * N, (settings.threads,))
    return Cell(f"hard, N={N}", {"N": N, "dtype": "float32"}, contenders, expected, 4 * N)


def weights_cell(scheme: str, N: int, settings: Settings) -> Cell:
    """Soft weights of all samples at the threshold of the pace."""
    losses, pace = make_losses(N), half_of(N)
    level = losses.double().sort().values[int(N * pace) - 1]
    weight = curml.weights(scheme, losses.double(), level)
    expected = Expected(
        {"weight": weight, "threshold": level}, {"weight": Tolerance(3e-7), "threshold": Tolerance(0.0)}
    )
    threads = settings.both_threads
    contenders = []
    for form, select in SELECTS.items():

        def make(select: Callable[..., curml.Selection] = select) -> Call:
            def call() -> Mapping[str, Tensor]:
                level = select(losses, pace).threshold
                return {"weight": curml.weights(scheme, losses, level), "threshold": level}

            return call

        contenders.append(Contender("published", form, make, threads=threads))

    def by_kthvalue() -> Mapping[str, Tensor]:
        level = losses.kthvalue(int(N * pace)).values
        return {"weight": curml.weights(scheme, losses, level), "threshold": level}

    name, _, degree = scheme.partition("-")
    parameters: dict[str, Any] = {"degree": float(degree), "formula": "curml"} if degree else {}

    def ours() -> Mapping[str, Tensor]:
        level = threshold_at_pace(losses, pace, formula="curml")
        return {"weight": ops.self_paced_weights(losses, level, scheme=name, **parameters), "threshold": level}

    contenders.append(Contender("eager", "kthvalue", lambda: by_kthvalue, threads=threads))
    contenders.append(Contender("ours", "threshold_at_pace", lambda: ours, "ours", threads))
    contenders.append(copy_floor(8 * N, (settings.threads,)))
    return Cell(f"{scheme}, N={N}", {"N": N, "dtype": "float32"}, contenders, expected, 8 * N)


def epoch_cell(scheme: str, share: float, hidden: int, settings: Settings) -> Cell:
    """A whole epoch on digits, curriculum included; the step size is 0, so that every epoch has the same losses.

    The floor is the epoch without a curriculum: all samples, forward and backward, once.
    """
    data = digits.load()
    N = len(data.y)
    pace = half_of(N) if share == 0.5 else share
    loss = curml.measured(digits.make_model(0, hidden), data.x, data.y, digits.BATCH)
    level = loss.sort().values[int(N * pace) - 1]
    weight = (loss <= level).double() if scheme == "hard" else curml.weights(scheme, loss.double(), level.double())
    near = (loss - level).abs() < 1e-5  # what the batch that a sample is in may move its loss by
    expected = Expected({"weight": weight}, {"weight": Tolerance(1e-5, at_ties=False)}, near)
    threads = settings.both_threads

    def setting() -> tuple[nn.Module, torch.optim.Optimizer, torch.Generator]:
        model = digits.make_model(0, hidden)
        return model, digits.make_optimizer(model, rate=0.0), torch.Generator().manual_seed(0)

    def published(records_graph: bool, select: Callable[..., curml.Selection]) -> Call:
        model, optimizer, order = setting()
        schedule = digits.Schedule("linear", pace, 10**9)  # as good as constant
        choose = digits.theirs(scheme, schedule, lambda loss, _: select(loss, pace))

        def call() -> Mapping[str, Tensor]:
            measured = curml.measured(model, data.x, data.y, digits.BATCH, records_graph=records_graph)
            choice = choose(measured, 0)
            digits.train_epoch(model, optimizer, data, choice, order)
            if choice.weights is None:
                return {"weight": torch.zeros(N).index_fill_(0, choice.rows, 1.0)}
            return {"weight": choice.weights}

        return call

    def ours() -> Call:
        model, optimizer, order = setting()
        curriculum = digits.InTraining(pace, N, weighting=scheme)
        curriculum.train_epoch(model, optimizer, data, order)  # the first epoch knows no losses and takes all

        def call() -> Mapping[str, Tensor]:
            weights = torch.zeros(N)
            curriculum.train_epoch(model, optimizer, data, order, weights)
            return {"weight": weights}

        return call

    def plain() -> Call:
        model, optimizer, order = setting()
        everything = digits.Choice(torch.arange(N), None)

        def call() -> Mapping[str, Tensor]:
            digits.train_epoch(model, optimizer, data, everything, order)
            return {}

        return call

    contenders = [
        Contender("published", "CurML", partial(published, True, curml.easiest_by_argsort), threads=threads),
        Contender("published", "CurBench", partial(published, False, curml.easiest_by_topk), threads=threads),
        Contender("ours", "losses of the training pass", ours, "ours", threads),
        Contender("no curriculum", "all samples once", plain, "floor", threads),
    ]
    size = {"N": N, "hidden": hidden, "pace": share, "dtype": "float32"}
    return Cell(f"epoch, {scheme}, pace {share:g}, hidden {hidden}", size, contenders, expected)


def super_loss_cell(N: int, settings: Settings) -> Cell:
    """SuperLoss of a batch, its mean and the gradient."""
    losses = 2.5 * make_losses(N)
    value, sigma = reference.super_loss(losses.double(), TAU, regularization=REGULARIZATION)
    expected = Expected(
        {"loss": value.mean(), "sigma": sigma, "gradient": (sigma / N)[:, None]},
        # sigma goes like a root next to the branch point, where theirs keeps half of the digits
        {"loss": Tolerance(1e-5), "sigma": Tolerance(3e-3), "gradient": Tolerance(3e-3 / N)},
    )
    threads = settings.both_threads

    def called(function: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[], Call]:
        def make() -> Call:
            leaf = losses.clone().requires_grad_()

            def call() -> Mapping[str, Tensor]:
                mean, sigma = function(leaf)
                return {"loss": mean, "sigma": sigma, "gradient": torch.autograd.grad(mean, leaf)[0][:, None]}

            return call

        return make

    def ours(loss: Tensor) -> tuple[Tensor, Tensor]:
        value, weight = ops.super_loss(loss, TAU, regularization=REGULARIZATION)
        return value.mean(), weight

    def eager(loss: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            sigma = reference.super_loss(loss, TAU, regularization=REGULARIZATION).weight
        return ((loss - TAU) * sigma + REGULARIZATION * torch.log(sigma) ** 2).mean(), sigma

    published = curml.SuperLoss(TAU, REGULARIZATION, keeps="curbench")
    contenders = [
        Contender("published", "SciPy on the host (CurBench)", called(published), threads=threads),
        left_out("published", "SciPy on the host (CurML)", "NaN at the branch point by SciPy 1.17 with NumPy 2"),
        Contender("eager", "sigma by the reference", called(eager), threads=threads),
        Contender("ours", "super_loss", called(ours), "ours", threads),
        copy_floor(12 * N, (settings.threads,)),
    ]
    return Cell(f"SuperLoss with its gradient, N={N}", {"N": N, "dtype": "float32"}, contenders, expected, 12 * N)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """Selections and weights of both sizes, epochs on digits, SuperLoss of a small and a large batch."""
    sizes = (N_DIGITS,) if settings.quick else (N_DIGITS, 1_000_000)
    epochs = [("hard", 0.5, 64), ("linear", 0.5, 64)]
    if not settings.quick:
        epochs += [("hard", 1.0, 64), ("hard", 0.5, 1024), ("hard", 1.0, 1024), ("linear", 0.5, 1024)]
    return [
        *(partial(selection_cell, N, settings) for N in sizes),
        *(partial(weights_cell, scheme, N, settings) for N in sizes for scheme in SCHEMES),
        *(partial(epoch_cell, *epoch, settings) for epoch in epochs),
        *(partial(super_loss_cell, N, settings) for N in ((1000,) if settings.quick else (1000, 262_144))),
    ]
