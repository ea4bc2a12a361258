"""Thresholds and selections over the processes of a group: the same as in one process, from counts alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from spcl_fast import ops, reference
from spcl_fast.reference import keys

NAN, INF = float("nan"), float("inf")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OTHERS = ("all_gather", "all_gather_into_tensor", "all_gather_object", "broadcast", "gather", "reduce", "scatter")


class Case(NamedTuple):
    """Difficulties of all processes, by name, and the share that is taken."""

    name: str
    dtype: torch.dtype
    pace: float


def every_case() -> Iterator[tuple[Case, Tensor]]:
    """Corpora that are hard to rank in one way or another."""
    generator = torch.Generator().manual_seed(7)
    drawn = torch.rand(1500, generator=generator)
    hostile = torch.randn(600, generator=generator)
    for value, first in ((NAN, 0), (INF, 1), (-INF, 2), (0.0, 3), (-0.0, 4)):
        hostile[first::9] = value
    for dtype in DTYPES:
        tiny = torch.finfo(dtype).smallest_normal / 8
        for name, corpus, paces in (
            ("few ties", drawn, (1e-9, 0.1, 1.0)),
            ("many ties", (drawn * 4).round(), (0.3,)),
            ("all equal", torch.full((401,), 0.7), (0.5,)),
            ("hostile", hostile, (0.2, 0.55)),
            ("subnormal", hostile.double() * tiny, (0.45,)),
            ("infinities and NaN", torch.tensor([INF, NAN, INF, -INF, NAN]).repeat(20), (0.6,)),
            ("none known", torch.full((50,), NAN), (0.5,)),
            ("none", torch.empty(0), (0.5,)),
        ):
            for pace in paces:
                yield Case(name, dtype, pace), corpus.to(dtype)


def ids_of(corpus: Tensor) -> Tensor:
    """An id for each utterance, in no order; of both signs, and the largest and the smallest there are."""
    ids = torch.randperm(len(corpus), generator=torch.Generator().manual_seed(8)) * 3 - len(corpus)
    limits = torch.iinfo(torch.int64)
    return (
        torch.where(ids == ids.max(), limits.max, torch.where(ids == ids.min(), limits.min, ids)) if len(ids) else ids
    )


def parts(corpus: Tensor, world_size: int) -> list[Tensor]:
    """Which utterances lie where: unevenly, mixed, none in the second of three processes, and in no order of ranks."""
    owner = torch.rand(len(corpus), generator=torch.Generator().manual_seed(9)) ** 2 * world_size
    owner = owner.long() if world_size < 3 else owner.long() // 2 * 2
    return [(owner == rank).nonzero().flatten() for rank in range(world_size)]


class Recorded:
    """Sees what is sent, and lets nothing but sums be sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        all_reduce = dist.all_reduce

        def recorded(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.sizes.append(tensor.numel())
            return all_reduce(tensor, *args, **kwargs)

        def refused(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("only sums may be sent")

        monkeypatch.setattr(dist, "all_reduce", recorded)
        for name in OTHERS:
            monkeypatch.setattr(dist, name, refused)

    def taken(self) -> list[int]:
        sizes, self.sizes = self.sizes, []
        return sizes


def look() -> dict[Case, Any]:
    """One process: everything it is told, by name, dtype and pace, and the lengths of what it sent."""
    found: dict[Case, Any] = {}
    rank, size, world = dist.get_rank(), dist.get_world_size(), dist.group.WORLD
    with pytest.MonkeyPatch.context() as monkeypatch:
        sent = Recorded(monkeypatch)
        for case, corpus in every_case():
            own, pace = parts(corpus, size)[rank], case.pace
            rho, ids = corpus[own], ids_of(corpus)[own]
            ops.difficulty_quantile(rho, pace)
            ops.select_easiest(rho, pace)
            ops.select_easiest(rho, pace, ids=ids)
            assert sent.taken() == []  # without a group nobody else is asked
            threshold = ops.difficulty_quantile(rho, pace, process_group=world)
            sizes = [sent.taken()]
            taken = ops.select_easiest(rho, torch.tensor(pace, dtype=torch.float64), process_group=world)
            sizes.append(sent.taken())
            taken_by_id = ops.select_easiest(rho, pace, process_group=world, ids=ids)
            sizes.append(sent.taken())
            found[case] = threshold, taken, taken_by_id, sizes
    return found


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda size: f"{size} processes")
def looked(request, run_processes) -> list[dict[Case, Any]]:
    """What every process of a group found, by its rank."""
    return run_processes(request.param, look)


def test_the_threshold_has_the_same_bits_on_all_processes_and_in_one(looked) -> None:
    for case, corpus in every_case():
        expected = reference.difficulty_quantile(corpus, case.pace)
        for found in looked:
            threshold = found[case][0]
            assert threshold.shape == ()
            assert threshold.dtype == corpus.dtype
            assert torch.equal(threshold.reshape(1).view(torch.uint8), expected.reshape(1).view(torch.uint8)), case


def test_exactly_the_share_is_taken_and_ties_go_by_rank_and_index(looked) -> None:
    for case, corpus in every_case():
        own = parts(corpus, len(looked))
        together = reference.select_easiest(corpus[torch.cat(own)], case.pace)
        expected = together.split([len(part) for part in own])
        for part, found in zip(expected, looked, strict=True):
            assert torch.equal(found[case][1], part), case


def test_with_ids_the_same_utterances_are_taken_wherever_they_lie(looked) -> None:
    for case, corpus in every_case():
        by_id = ids_of(corpus).argsort()
        expected = torch.empty(len(corpus), dtype=torch.bool)
        expected[by_id] = reference.select_easiest(corpus[by_id], case.pace)
        for part, found in zip(parts(corpus, len(looked)), looked, strict=True):
            assert torch.equal(found[case][2], expected[part]), case


def test_only_histograms_and_counts_of_ties_are_sent_and_the_same_by_all(looked) -> None:
    digits = {64: [2048] * 5 + [512], 32: [2048, 2048, 1024], 16: [2048, 32]}
    for case, _ in every_case():
        of_floats = digits[torch.finfo(case.dtype).bits]
        for found in looked:
            of_threshold, of_selection, of_ids = found[case][3]
            assert of_threshold == of_floats
            assert of_selection == [*of_floats, len(looked)]
            assert of_ids == of_floats + digits[64]
            assert max(of_ids) == 2048 == 1 << keys.digit_at(case.dtype, 0).bits


def test_the_parts_are_uneven_and_one_is_empty() -> None:
    corpus = next(every_case())[1]
    for size in (1, 2, 3):
        lengths = [len(part) for part in parts(corpus, size)]
        assert sum(lengths) == len(corpus)
        assert len(set(lengths)) == size
        assert (0 in lengths) == (size == 3)


@pytest.mark.parametrize("op", [ops.difficulty_quantile, ops.select_easiest])
def test_what_is_no_process_group_is_refused(op) -> None:
    for wrong in (0, "gloo", dist.GroupMember.NON_GROUP_MEMBER):
        with pytest.raises(TypeError, match=rf"{op.__name__}: process_group must be a .* \(got {type(wrong).__name__}"):
            op(torch.rand(3), 0.5, process_group=wrong)
