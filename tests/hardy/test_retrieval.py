"""The table of neighbours, every index against loops over all pairs."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from spcl_fast.hardy import NeighbourTable, _nearest
from spcl_fast.merc.npz import read_npz

NAMES = ("text", "audio", "visual")
SUBSETS = [torch.tensor(x) for x in product([False, True], repeat=3)]


def distance(x: np.ndarray, y: np.ndarray, metric: str) -> float | None:
    """None where one has no direction."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    if metric == "cosine":
        if not x.any() or not y.any():
            return None
        x, y = x / math.sqrt(x @ x), y / math.sqrt(y @ y)
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True)))


def loops(features, hardness, available, k=3, metric=("cosine", "l2", "l2"), rerank="mean_l2"):
    """What `gather` of all rows gives, by loops; `available` is `[M, N]`."""
    arrays = [np.asarray(features[m]) for m in features]
    N = len(arrays[0])
    faulty = [not all(np.isfinite(x[i]).all() for x in arrays) for i in range(N)]
    ours = range(len(arrays))
    order = sorted(ours, key=lambda m: "avt".index(list(features)[m][0])) if rerank == "code" else ours
    result = []
    for i in range(N):
        union: list[int] = []
        others = [j for j in range(N) if j != i and not faulty[j] and not faulty[i]]
        between = {(m, j): distance(arrays[m][i], arrays[m][j], metric[m]) for m in ours for j in others}
        for m in order:
            near = sorted((between[m, j], j) for j in others if between[m, j] is not None)
            union += [j for _, j in near[:k] if available[m][i] and j not in union]
        if rerank == "mean_l2":
            mean = {j: sum(math.sqrt(2) if (d := between[m, j]) is None else d for m in ours) for j in union}
            union.sort(key=lambda j: (mean[j], j))
        h = hardness[i]
        count = 0 if math.isnan(h) else max(1, min(k, math.floor(h * k + 1)))
        union = union[:count]
        result.append([i] * (k + 1 - len(union)) + union)
    return result


def gathered(features, hardness, available: Tensor, k=3, metric=("cosine", "l2", "l2"), rerank="mean_l2"):
    table = NeighbourTable.build(features, neighbours=k, metric=dict(zip(features, metric, strict=True)), rerank=rerank)
    return table.gather(torch.arange(table.num_rows), torch.as_tensor(hardness), available).tolist()


def random_features(N: int, dtype=torch.float32, sizes=(6, 4, 9), seed=0) -> dict[str, Tensor]:
    generator = torch.Generator("cpu").manual_seed(seed)
    drawn = {m: torch.randn(N, F, generator=generator, device="cpu") for m, F in zip(NAMES, sizes, strict=True)}
    return {m: x.to(dtype).to(torch.get_default_device()) for m, x in drawn.items()}


def on_host(features: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {m: x.double().cpu().numpy() for m, x in features.items()}


def check(features: dict[str, Tensor], available: Tensor, k=3, metric=("cosine", "l2", "l2"), rerank="mean_l2"):
    """Holds all rows against the loops, at hardnesses that ask for every number of neighbours."""
    N = len(next(iter(features.values())))
    hardness = torch.tensor(np.linspace(0, 1, N) ** 0.7)
    there = (available if available.ndim == 2 else available[:, None].expand(-1, N)).tolist()
    expected = loops(on_host(features), hardness.tolist(), there, k, metric, rerank)
    assert gathered(features, hardness, available, k, metric, rerank) == expected
    return expected


@pytest.mark.parametrize("rerank", ["mean_l2", "code"])
@pytest.mark.parametrize("available", SUBSETS, ids=lambda x: "".join(str(int(there)) for there in x))
def test_every_subset_is_that_of_the_loops(available, rerank):
    check(random_features(23), available, rerank=rerank)


@pytest.mark.parametrize("rerank", ["mean_l2", "code"])
@pytest.mark.parametrize("metric", list(product(["l2", "cosine"], repeat=3)), ids=lambda x: "-".join(x))
def test_every_metric_is_that_of_the_loops(metric, rerank):
    check(random_features(14, seed=1), torch.tensor([True, False, True]), 2, metric, rerank)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_dtypes_are_taken_as_they_are(dtype):
    check(random_features(20, dtype), torch.ones(3).bool())


@pytest.mark.parametrize("k", [1, 2, 8, 24, 25, 40])
def test_number_of_neighbours_up_to_more_than_the_fold_has(k):
    expected = check(random_features(26), torch.tensor([True, True, False]), k)
    assert all(len(row) == k + 1 for row in expected)


@pytest.mark.parametrize("N", [0, 1, 2, 3])
def test_small_folds(N):
    available = torch.ones(3).bool()
    expected = check(random_features(N), available)
    assert len(expected) == N
    if N == 1:
        assert expected == [[0, 0, 0, 0]]


def test_a_batch_may_mix_subsets_and_each_row_hangs_on_its_own(monkeypatch):
    features = random_features(40)
    available = torch.rand(3, 40) < 0.5
    expected = check(features, available)
    table = NeighbourTable.build(features)
    hardness = torch.linspace(0, 1, 40).double() ** 0.7
    rows = torch.randperm(40)[:17]
    part = table.gather(rows, hardness[rows], available[:, rows])
    whole = table.gather(torch.arange(40), hardness, available)
    assert torch.equal(part, whole[rows])
    full = gathered(features, np.linspace(0, 1, 40) ** 0.7, torch.ones(3, 40).bool())
    assert full == gathered(features, np.linspace(0, 1, 40) ** 0.7, torch.ones(3).bool())
    assert whole.tolist() != full
    assert len(expected) == 40


def test_subsets_are_ranked_when_they_are_seen():
    table = NeighbourTable.build(random_features(9))
    rows, hardness = torch.arange(9), torch.ones(9)
    for available, ranked in ([1, 0, 1], 1), ([0, 0, 1], 2), ([1, 0, 1], 2):
        table.gather(rows, hardness, torch.tensor(available).bool())
        assert len(table._slots) == ranked
    table.gather(rows, hardness, (torch.arange(27).view(3, 9) % 4 == 0))
    assert set(table._slots) == {5, 4, 1, 2} | ({0} if len(table._slots) == 5 else set())
    again = table.gather(rows, hardness, torch.tensor([True, False, True]))
    assert torch.equal(
        again, NeighbourTable.build(random_features(9)).gather(rows, hardness, torch.tensor([1, 0, 1]) > 0)
    )


@pytest.mark.parametrize("rerank", ["mean_l2", "code"])
def test_groups_keep_to_themselves(rerank):
    """Each group is a fold of its own: one of a single row has no neighbours, and a faulty row none of its own."""
    features = random_features(24, seed=9)
    features["audio"][5] = torch.nan
    groups = torch.tensor([0, 1, -100, 1] * 6)
    groups[7] = 9
    hardness, available = torch.full((24,), 0.7), torch.tensor([True, False, True])
    table = NeighbourTable.build(features, neighbours=4, rerank=rerank, groups=groups)
    got = table.gather(torch.arange(24), hardness, available)
    for group in groups.unique():
        rows = (groups == group).nonzero()[:, 0]
        alone = NeighbourTable.build({m: x[rows] for m, x in features.items()}, neighbours=4, rerank=rerank)
        assert torch.equal(got[rows], rows[alone.gather(torch.arange(len(rows)), hardness[rows], available)])


@pytest.mark.parametrize("rerank", ["mean_l2", "code"])
def test_ties_go_by_index(rerank):
    generator = torch.Generator("cpu").manual_seed(3)
    grid = [torch.randint(3, (50, 2), generator=generator, device="cpu").float() for _ in NAMES]
    features = {m: x.to(torch.get_default_device()) for m, x in zip(NAMES, grid, strict=True)}
    for available in torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1]]).bool():
        check(features, available, 4, ("l2",) * 3, rerank)


def test_equal_rows_go_by_index_and_leave_the_query_out():
    features = {m: torch.tensor([[0.1, 0.7, 0.2]]).repeat(30, 1) for m in NAMES}
    features["audio"][7] *= 2
    expected = check(features, torch.tensor([False, True, False]))
    assert expected[20] == [20, 0, 1, 2]
    assert expected[1] == [1, 1, 1, 0]
    assert all(7 not in row[1:] for i, row in enumerate(expected) if i != 7)


@pytest.mark.parametrize("k", [3, 11])
def test_many_equal_rows_among_others(k):
    features = random_features(60)
    features["audio"][::3] = 0.25
    features["visual"][10:40] = 0
    check(features, torch.tensor([False, True, True]), k)
    check(features, torch.tensor([False, False, True]), k, rerank="code")


def test_constant_features_are_all_equally_near():
    features = random_features(12)
    features["audio"][:] = 0.1
    assert check(features, torch.tensor([False, True, False]), rerank="code")[11] == [11, 0, 1, 2]
    check(features, torch.tensor([False, True, False]))
    check(features, torch.tensor([True, True, False]))


def test_a_vector_of_zeros_has_no_direction():
    features = random_features(15)
    features["text"][[2, 9]] = 0
    alone = check(features, torch.tensor([True, False, False]))
    assert alone[9] == [9] * 4
    assert all(not {2, 9} & set(row[1:]) for i, row in enumerate(alone) if i not in (2, 9))
    both = check(features, torch.tensor([True, True, False]))
    assert set(both[9]) - {9}  # by audio
    features["text"][:] = 0
    assert check(features, torch.tensor([True, False, False])) == [[i] * 4 for i in range(15)]


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
def test_a_faulty_row_is_never_retrieved_and_retrieves_nothing(fault):
    features = random_features(15)
    features["visual"][4, 2] = fault
    for available in torch.tensor([[1, 0, 0], [0, 0, 1], [1, 1, 1]]).bool():
        expected = check(features, available)
        assert expected[4] == [4] * 4
        assert all(4 not in row for i, row in enumerate(expected) if i != 4)
    features["text"][:] = fault
    assert check(features, torch.ones(3).bool()) == [[i] * 4 for i in range(15)]


def test_an_utterance_without_a_modality_stands_for_itself():
    available = torch.ones(3, 10).bool()
    available[:, 6] = False
    assert check(random_features(10), available)[6] == [6] * 4
    assert check(random_features(10), torch.zeros(3).bool()) == [[i] * 4 for i in range(10)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_hardness_decides_how_many(dtype):
    table = NeighbourTable.build(random_features(20))
    values = [math.nan, -math.inf, -0.5, 0.0, 0.25, 0.34, 0.6, 0.7, 1.0, 1.5, math.inf]
    hardness = torch.tensor(values, dtype=dtype)
    rows = torch.full((len(values),), 5)
    found = table.gather(rows, hardness, torch.ones(3).bool())
    counts = [0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3]
    assert (found != 5).sum(1).tolist() == counts
    nearest = found[-1, 1:].tolist()
    assert [row[4 - n :] for row, n in zip(found.tolist(), counts, strict=True)] == [nearest[:n] for n in counts]


def test_hardness_just_below_a_third_is_not_rounded_up():
    table = NeighbourTable.build(random_features(20))
    below = np.nextafter(np.float32(2 / 3), np.float32(0))
    assert float(below) * 3 < 2
    found = table.gather(torch.zeros(1).long(), torch.tensor([below]), torch.ones(3).bool())
    assert (found != 0).sum() == 2


def test_published_joining_never_reaches_past_the_first_list():
    features = random_features(30)
    table = NeighbourTable.build(features, rerank="code")
    rows, hardness = torch.arange(30), torch.ones(30)
    text, audio, visual = torch.eye(3).bool()
    assert torch.equal(table.gather(rows, hardness, text | audio), table.gather(rows, hardness, audio))
    assert torch.equal(table.gather(rows, hardness, text | visual), table.gather(rows, hardness, visual))
    ours = NeighbourTable.build(features)
    assert not torch.equal(ours.gather(rows, hardness, text | audio), ours.gather(rows, hardness, audio))


def test_order_of_modalities_and_default_metrics():
    features = random_features(25)
    table = NeighbourTable.build(features)
    turned = NeighbourTable.build({m: features[m] for m in reversed(NAMES)})
    named = NeighbourTable.build({"text_lsa+text_glove": features["text"], "audio": features["audio"]})
    assert turned.modalities == ("visual", "audio", "text")
    rows, hardness = torch.arange(25), torch.ones(25)
    for available in torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool():
        assert torch.equal(table.gather(rows, hardness, available), turned.gather(rows, hardness, available.flip(0)))
    alone = table.gather(rows, hardness, torch.tensor([True, False, False]))
    assert set(map(tuple, alone.sort(1).values.tolist())) == {
        tuple(sorted(row)) for row in named.gather(rows, hardness, torch.tensor([True, False])).tolist()
    }
    assert alone.tolist() == loops(on_host(features), [1.0] * 25, [[True] * 25, [False] * 25, [False] * 25])


def test_order_is_that_of_float64_where_float32_would_lose_it():
    offset = torch.tensor([[1000.0, -3.0, 0.0]], dtype=torch.float64)
    near = 1 + 1e-7 * torch.rand(40, dtype=torch.float64)
    x = offset + torch.stack([near, torch.zeros(40).double(), -near], 1)
    for metric in ("l2", "cosine"):
        check(
            {"audio": x, "visual": -x[:, :2].contiguous(), "text": x},
            torch.tensor([True, False, True]),
            5,
            (metric,) * 3,
        )


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_any_magnitude(scale):
    rows, hard, available = torch.arange(16), torch.ones(16), torch.tensor([True, True, False])
    usual = NeighbourTable.build(random_features(16, torch.float64), rerank="code")
    scaled = {m: x * scale for m, x in random_features(16, torch.float64).items()}
    found = NeighbourTable.build(scaled, rerank="code").gather(rows, hard, available)
    assert torch.equal(found, usual.gather(rows, hard, available))
    if 1e-100 < scale < 1e100:  # a mean of distances tells rows apart only where their squares are numbers
        check(scaled, available)
    else:
        ranked = NeighbourTable.build(scaled).gather(rows, hard, available).sort(1).values
        assert (ranked[:, 1:] > ranked[:, :-1]).all()


@pytest.mark.parametrize(("tile", "spare"), [(1, 6), (7, 6), (64, 6), (7, 0)])
def test_blocks_change_nothing(monkeypatch, tile, spare):
    features = random_features(30)
    features["audio"] = features["audio"].round()
    features["visual"][10:] = features["visual"][10]
    monkeypatch.setattr(_nearest, "TILE", tile)
    monkeypatch.setattr(_nearest, "SPARE", spare)
    monkeypatch.setattr(_nearest, "IN_CACHE", 1)
    check(features, torch.tensor([[1, 0, 1] * 10, [0, 1, 1] * 10, [1, 1, 0] * 10]).bool())


@pytest.mark.data
def test_real_features_are_those_of_all_pairs(data_dir):
    corpus = read_npz(data_dir / "mosi.npz", "text,audio,visual")
    rows, _ = corpus.rows_of(corpus.dialogues("train"))
    features = {m: torch.from_numpy(x[rows[::3]]) for m, x in corpus.features.items()}
    table = NeighbourTable.build(features, metric={"text": "l2"}, rerank="code")
    every = torch.arange(table.num_rows)
    for m, available in zip(table.modalities, torch.eye(3).bool(), strict=True):
        x = features[m].double()
        pairs = torch.stack([(x - y).square().sum(1) for y in x]).fill_diagonal_(math.inf)
        found = table.gather(every, torch.ones(len(every)), available)
        assert torch.equal(found[:, 1:], pairs.argsort(dim=1, stable=True)[:, :3])


def test_products_in_half_precision_change_nothing(monkeypatch):
    features = random_features(60, torch.float64, seed=5)
    expected = check(features, torch.ones(3).bool())
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert check(features, torch.ones(3).bool()) == expected


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": [1]}, TypeError, "features must be a mapping"),
        ({"features": {}}, ValueError, "1 to 16 modalities"),
        ({"features": {"text": [[1.0]]}}, TypeError, "must be a tensor"),
        ({"features": {"text": torch.ones(2, 2).long()}}, TypeError, "floating point numbers"),
        ({"features": {"text": torch.ones(2)}}, ValueError, "2 dimension"),
        ({"features": {"text": torch.ones(2, 0)}}, ValueError, "at least one column"),
        ({"features": {"text": torch.ones(2, 1), "audio": torch.ones(3, 1)}}, ValueError, "shape"),
        ({"neighbours": 0}, ValueError, "neighbours must be at least 1"),
        ({"neighbours": 2.0}, TypeError, "neighbours must be an integer"),
        ({"rerank": "mean"}, ValueError, "rerank must be one of"),
        ({"metric": {"smell": "l2"}}, ValueError, "metric must be one of"),
        ({"metric": {"text": "l1"}}, ValueError, "metric of 'text' must be one of"),
        ({"groups": torch.zeros(4)}, TypeError, "groups must hold integers"),
        ({"groups": torch.zeros(3).long()}, ValueError, "groups must have shape"),
    ],
)
def test_faults_of_build_are_named(change, error, message):
    with pytest.raises(error, match=message):
        NeighbourTable.build(**({"features": random_features(4)} | change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rows": torch.zeros(2)}, TypeError, "rows must hold integers"),
        ({"rows": torch.zeros(2, 1).long()}, ValueError, "1 dimension"),
        ({"hardness": torch.zeros(2).long()}, TypeError, "hardness must hold floating"),
        ({"hardness": torch.zeros(3)}, ValueError, "hardness must have shape"),
        ({"available": [True] * 3}, TypeError, "available must be a tensor"),
        ({"available": torch.ones(3)}, TypeError, "available must hold booleans"),
        ({"available": torch.ones(2).bool()}, ValueError, "available must have shape"),
        ({"available": torch.ones(2, 3).bool()}, ValueError, "available must have shape"),
    ],
)
def test_faults_of_gather_are_named(change, error, message):
    table = NeighbourTable.build(random_features(4))
    given = {"rows": torch.zeros(2).long(), "hardness": torch.zeros(2), "available": torch.ones(3).bool()}
    with pytest.raises(error, match=message):
        table.gather(**(given | change))


@pytest.mark.host_only
@pytest.mark.parametrize("row", [-1, 4])
def test_rows_out_of_range_are_refused_on_the_host(row):
    table = NeighbourTable.build(random_features(4))
    with pytest.raises(ValueError, match=rf"rows must lie in \[0, 4\) \(got {row}\)"):
        table.gather(torch.tensor([0, row]), torch.ones(2), torch.ones(3).bool())


def test_inputs_are_left_as_they_are_and_arrays_are_taken():
    features = random_features(10)
    before = {m: x.clone() for m, x in features.items()}
    rows, hardness, available = torch.arange(10), torch.rand(10), torch.rand(3, 10) < 0.6
    given = [x.clone() for x in (rows, hardness, available)]
    table = NeighbourTable.build(features)
    found = table.gather(rows, hardness, available)
    assert all(torch.equal(features[m], x) for m, x in before.items())
    assert all(torch.equal(x, y) for x, y in zip(given, (rows, hardness, available), strict=True))
    arrays = {m: x.cpu().numpy() for m, x in features.items()}
    for x in arrays.values():
        x.setflags(write=False)
    again = NeighbourTable.build(arrays).gather(rows, hardness, available)
    assert torch.equal(again, found)
    assert torch.equal(table.gather(rows.int(), hardness, available), found)
    assert table.gather(rows[:0], hardness[:0], available[:, :0]).shape == (0, 4)
