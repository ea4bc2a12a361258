"""The scheduler over the processes of a group: what one process would select, weigh and learn from the whole batch.

Each of one, two and three processes holds dialogues of every batch, unevenly, and of three one holds none.
"""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from spcl_fast import SelfPacedScheduler, pacing
from spcl_fast.difficulty import BssDifficulty, CombinedDifficulty, Difficulty, HistoryDifficulty, StepInputs
from spcl_fast.testing import random_inputs
from spcl_fast.thresholds import QuantileThreshold, RunningMeanThreshold, ThresholdSchedule

LENGTHS = (5, 1, 0, 7, 3, 6, 2)
T = sum(LENGTHS)
BATCHES = 3
HALVES = CombinedDifficulty([("loss", 1.0), ("spread", 1.0), (BssDifficulty(), 0.25)], normalize="minmax")


def quantile(over: str) -> QuantileThreshold:
    num_utterances = BATCHES * T if over == "epoch" else None
    return QuantileThreshold(pacing.LinearPace(start=0.4, total=4), over=over, num_utterances=num_utterances)


SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "spcl": dict,
    "selected": lambda: {"normalizer": "selected", "weighting": "linear"},
    "quantile of a batch": lambda: {"threshold": quantile("batch"), "difficulty": "loss"},
    "soft quantile": lambda: {"threshold": quantile("batch"), "weighting": "logistic", "normalizer": "selected"},
    "quantile of an epoch": lambda: {"threshold": quantile("epoch"), "difficulty": "loss"},
    "superloss": lambda: {
        "threshold": RunningMeanThreshold(1.0, momentum=0.5),
        "difficulty": "loss",
        "weighting": "superloss",
        "weighting_parameters": {"regularization": 1.0},
    },
    "scaled": lambda: {"threshold": 1.0, "difficulty": HALVES},
    "zscore": lambda: {"threshold": 0.0, "difficulty": CombinedDifficulty([("loss", 1.0)], normalize="zscore")},
    "random": lambda: {"threshold": 0.5, "difficulty": "random"},
}


def scheduler_of(name: str, group: dist.ProcessGroup | None) -> SelfPacedScheduler:
    return SelfPacedScheduler(**SETTINGS[name](), process_group=group)


def whole_batch(number: int) -> StepInputs:
    """A batch of all processes; equal logits here and there make ties."""
    x = random_inputs(LENGTHS, seed=number, dtype=torch.float64)
    x.logits[:, 1:4] = x.logits[:, :1]  # type: ignore[index]
    x.labels[1:4] = x.labels[0]
    x.labels[9] = -100
    return x._replace(ids=x.ids + number * T)  # type: ignore[operator]


def rows_of(rank: int, size: int) -> tuple[Tensor, Tensor]:
    """The utterances of a process, and where its dialogues begin and end."""
    owner = (0, 1, 0, 0, 1, 0, 0) if size == 2 else (2, 0, 0, 2, 0, 0, 2)  # of three, the second has nothing
    owner = owner if size > 1 else (0,) * len(LENGTHS)
    borders = [0, *itertools.accumulate(LENGTHS)]
    own = [d for d, process in enumerate(owner) if process == rank]
    rows = torch.cat([torch.arange(0), *(torch.arange(borders[d], borders[d + 1]) for d in own)])
    return rows, torch.tensor([0, *itertools.accumulate(LENGTHS[d] for d in own)])


def part_of(x: StepInputs, rank: int, size: int) -> StepInputs:
    rows, offsets = rows_of(rank, size)
    return x._replace(
        logits=x.logits[:, rows],  # type: ignore[index, call-overload]
        labels=x.labels[rows],
        offsets=offsets,
        speakers=x.speakers[rows],  # type: ignore[index]
        embeddings=x.embeddings[:, rows],  # type: ignore[index, call-overload]
        ids=x.ids[rows],  # type: ignore[index]
    )


def one_step(scheduler: SelfPacedScheduler, x: StepInputs) -> dict[str, Tensor]:
    z = x.logits.clone().requires_grad_()  # type: ignore[union-attr]
    step = scheduler(z, x.labels, x.offsets, x.speakers, x.embeddings, ids=x.ids)
    (gradient,) = torch.autograd.grad(step.loss, z)
    return {"ids": x.ids, "weight": step.weight, "gradient": gradient, "loss": step.loss.detach()}  # type: ignore[dict-item]


def train(scheduler: SelfPacedScheduler, rank: int, size: int, epochs: range) -> list[Any]:
    seen: list[Any] = []
    for _ in epochs:
        seen += [one_step(scheduler, part_of(whole_batch(number), rank, size)) for number in range(BATCHES)]
        seen.append(scheduler.end_epoch()._asdict())
    return seen


def in_processes(names: list[str]) -> dict[str, list[Any]]:
    rank, size = dist.get_rank(), dist.get_world_size()
    return {name: train(scheduler_of(name, dist.group.WORLD), rank, size, range(3)) for name in names}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_processes_select_weigh_and_learn_what_one_would(run_processes, size):
    results = run_processes(size, in_processes, list(SETTINGS))
    for name in SETTINGS:
        expected = train(scheduler_of(name, None), 0, 1, range(3))
        for k, alone in enumerate(expected):
            parts = [result[name][k] for result in results]
            if "gradient" not in alone:  # the statistics of an epoch
                for part in parts:
                    assert part.pop("steps") == size * alone["steps"]
                    for field, value in part.items():
                        assert value == pytest.approx(alone[field], rel=1e-12, nan_ok=True), (name, k, field)
                continue
            ids = torch.cat([part["ids"] for part in parts])
            assert torch.equal(ids.sort().values, alone["ids"].sort().values)
            order, own = ids.argsort(), alone["ids"].argsort()
            weight = torch.cat([part["weight"] for part in parts])[order]
            assert torch.equal(weight > 0, alone["weight"][own] > 0), (name, k)
            torch.testing.assert_close(weight, alone["weight"][own], rtol=1e-12, atol=1e-15)
            # DDP and FSDP take the mean of the gradients over the processes.
            gradient = torch.cat([part["gradient"] for part in parts], 1)[:, order] / size
            torch.testing.assert_close(gradient, alone["gradient"][:, own], rtol=1e-12, atol=1e-15)
            mean_loss = sum(float(part["loss"]) for part in parts) / size
            assert mean_loss == pytest.approx(float(alone["loss"]), rel=1e-12)


def half_an_epoch(name: str) -> bytes:
    rank, size = dist.get_rank(), dist.get_world_size()
    scheduler = scheduler_of(name, dist.group.WORLD)
    train(scheduler, rank, size, range(1))
    for number in range(2):
        one_step(scheduler, part_of(whole_batch(number), rank, size))
    scheduler.synchronize()
    scheduler.synchronize()  # changes nothing more
    state = io.BytesIO()
    torch.save(scheduler.state_dict(), state)
    return state.getvalue()


def the_other_half(saved: dict[str, list[bytes]]) -> dict[str, Any]:
    rank, size = dist.get_rank(), dist.get_world_size()
    result = {}
    for name, states in saved.items():
        scheduler = scheduler_of(name, dist.group.WORLD)
        state = states[rank % len(states)]  # that of any process will do
        scheduler.load_state_dict(torch.load(io.BytesIO(state), weights_only=True))
        step = one_step(scheduler, part_of(whole_batch(2), rank, size))
        result[name] = [step["weight"].sum(), scheduler.end_epoch()._asdict(), scheduler.threshold.item()]
    return result


def test_a_state_saved_in_the_middle_of_an_epoch_continues_on_other_numbers_of_processes(run_processes):
    names = ["spcl", "quantile of an epoch", "superloss"]
    saved = {name: run_processes(2, half_an_epoch, name) for name in names}
    for name in names:
        assert saved[name][0] == saved[name][1]
    for size in (1, 3):
        results = run_processes(size, the_other_half, saved)
        for name in names:
            scheduler = scheduler_of(name, None)
            train(scheduler, 0, 1, range(1))
            steps = [one_step(scheduler, whole_batch(number)) for number in range(3)]
            stats, threshold = scheduler.end_epoch()._asdict(), scheduler.threshold.item()
            total = sum(float(result[name][0]) for result in results)
            assert total == pytest.approx(float(steps[-1]["weight"].sum()), rel=1e-12)
            for result in results:
                assert result[name][2] == pytest.approx(threshold, rel=1e-12)
                for field, value in result[name][1].items():
                    if field != "steps":
                        assert value == pytest.approx(stats[field], rel=1e-12), (name, field)


class Model(nn.Module):
    """Two heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads = nn.ModuleList([nn.Linear(8, 4, dtype=torch.float64) for _ in range(3)])

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        return [head(x) for head, x in zip(self.heads, embeddings, strict=True)]


def fit(model: nn.Module, scheduler: SelfPacedScheduler, rank: int, size: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for number in range(BATCHES):
        x = part_of(whole_batch(number), rank, size)
        optimizer.zero_grad()
        scheduler(model(x.embeddings), x.labels, x.offsets).loss.backward()
        optimizer.step()
    scheduler.end_epoch()


def wrapped(kind: str) -> list[Tensor]:
    rank, size = dist.get_rank(), dist.get_world_size()
    model: nn.Module = Model()
    scheduler = SelfPacedScheduler(1.0, process_group=dist.group.WORLD)
    if kind == "DDP":
        fit(nn.parallel.DistributedDataParallel(model), scheduler, rank, size)
        return [p.detach() for p in model.parameters()]
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(model, mesh=init_device_mesh("cpu", (size,)))
    fit(model, scheduler, rank, size)
    return [p.full_tensor().detach() for p in model.parameters()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["DDP", "FSDP2"])
def test_a_wrapped_model_learns_what_one_process_would(run_processes, kind):
    model = Model()
    fit(model, SelfPacedScheduler(1.0), 0, 1)
    for parameters in run_processes(3, wrapped, kind):
        for got, expected in zip(parameters, model.parameters(), strict=True):
            torch.testing.assert_close(got, expected.detach(), rtol=1e-10, atol=1e-12)


class Silent(ThresholdSchedule):
    initial = 1.0


class Own(Difficulty):
    def forward(self, inputs: StepInputs) -> Tensor:
        return inputs.step("loss").difficulty


def what_is_sent() -> dict[str, list[int]]:
    """How much each call sends, by what is called."""
    rank, size = dist.get_rank(), dist.get_world_size()
    sent: list[int] = []
    all_reduce = dist.all_reduce

    def recorded(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        sent.append(tensor.numel())
        return all_reduce(tensor, *args, **kwargs)

    dist.all_reduce = recorded
    counted: dict[str, list[int]] = {}
    many = random_inputs((9000,), seed=rank)

    def count(what: str, call: Callable[[], Any]) -> Any:
        sent.clear()
        value = call()
        counted[what] = list(sent)
        return value

    try:
        for name in SETTINGS:
            group = dist.group.WORLD
            alone = count(f"{name}: no group", lambda name=name: train(scheduler_of(name, None), rank, size, range(1)))
            assert alone
            scheduler = count(f"{name}: construction", lambda name=name, group=group: scheduler_of(name, group))
            if "epoch" not in name:
                ids = torch.arange(9000) + 9000 * rank
                step = (many.logits, many.labels, many.offsets, many.speakers, many.embeddings)
                count(f"{name}: a step", lambda s=scheduler, step=step, ids=ids: s(*step, ids=ids))
        mine = SelfPacedScheduler(Silent(), difficulty=Own(), process_group=dist.group.WORLD)
        count("own: a step", lambda: mine(many.logits, many.labels, many.offsets))
        count("own: end", mine.end_epoch)
    finally:
        dist.all_reduce = all_reduce
    return counted


def test_nothing_is_sent_without_a_group_and_never_a_score(run_processes):
    first, second = run_processes(2, what_is_sent)
    assert first == second  # the same collectives on all
    for what, sizes in first.items():
        if "no group" in what or "construction" in what:
            assert sizes == [], what
        else:
            assert sizes, what
            assert max(sizes) <= 2048, what
    assert first["spcl: a step"] == [1]


class ModelWithItsScheduler(Model):
    """Calls the scheduler in its forward pass; it remembers by the utterance, and by the epoch."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        super().__init__()
        self.scheduler = SelfPacedScheduler(
            quantile("epoch"), difficulty=HistoryDifficulty(BATCHES * T), process_group=group
        )

    def forward(self, x: StepInputs) -> Tensor:  # type: ignore[override]
        heads = super().forward(x.embeddings)  # type: ignore[arg-type]
        loss: Tensor = self.scheduler(heads, x.labels, x.offsets, ids=x.ids).loss
        return loss


def learned_with_its_scheduler(group: dist.ProcessGroup | None) -> list[Any]:
    rank, size = (dist.get_rank(), dist.get_world_size()) if group else (0, 1)
    model = ModelWithItsScheduler(group)
    wrapped = nn.parallel.DistributedDataParallel(model) if group else model
    seen: list[Any] = []
    for _ in range(2):
        for number in range(BATCHES):
            wrapped(part_of(whole_batch(number), rank, size)).backward()
        seen.append(model.scheduler.end_epoch()._replace(steps=0)._asdict())
        seen.append({"observed": model.scheduler.difficulty.scores.num_observed})
    return seen


def learned_in_processes() -> list[Any]:
    return learned_with_its_scheduler(dist.group.WORLD)


def test_a_wrapper_does_not_overwrite_what_the_processes_have_counted(run_processes):
    expected = learned_with_its_scheduler(None)
    for seen in run_processes(2, learned_in_processes):
        for got, alone in zip(seen, expected, strict=True):
            for field, value in alone.items():
                if isinstance(value, Tensor):
                    assert torch.equal(got[field], value)
                else:
                    assert got[field] == pytest.approx(value, rel=1e-6), field


def copied_and_with_modalities_of_their_own() -> tuple[bool, list[float], str]:
    rank, group = dist.get_rank(), dist.group.WORLD
    first = SelfPacedScheduler(1.0, process_group=group)
    copied = copy.deepcopy(nn.ModuleList([nn.Linear(1, 1), first]))[1]
    x = part_of(whole_batch(0), rank, 2)
    losses = [float(scheduler(x.logits, x.labels, x.offsets).loss) for scheduler in (first, copied)]
    first.end_epoch()  # does not end that of the copy
    is_its_own = copied.process_group is group and copied.epoch == 0 and copied.check().steps == 2
    other = SelfPacedScheduler(1.0, process_group=group)
    other(x.logits[: 3 - rank], x.labels, x.offsets)  # type: ignore[index]
    with pytest.raises(ValueError) as caught:
        other.end_epoch()
    return is_its_own, losses, str(caught.value)


def test_copies_speak_to_the_same_processes_and_modalities_are_those_of_all(run_processes):
    for is_its_own, (first, copied), message in run_processes(2, copied_and_with_modalities_of_their_own):
        assert is_its_own
        assert first == copied
        assert message == (
            "SelfPacedScheduler: the steps of all processes must have the same modalities (got 2 in one, 3 in another)"
        )


def test_a_group_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"process_group must be a torch\.distributed\.ProcessGroup"):
        SelfPacedScheduler(process_group="gloo")
