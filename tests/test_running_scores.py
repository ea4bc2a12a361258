"""`RunningScores` against a dictionary of Python floats; unknown ids, faults, memory, compilation, state."""

from __future__ import annotations

import io
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spcl_fast import RunningScores, _running_rows

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")


class ByHand:
    """What `RunningScores` is to know, an utterance at a time and in float64: all observations of each are kept."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.seen: dict[int, list[tuple[float, float, bool]]] = {}

    def update(self, ids: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor, scored: Tensor | None) -> None:
        batch = {}
        everything = torch.ones_like(correct) if scored is None else scored
        columns = (x.tolist() for x in (ids, loss, confidence, correct, everything))
        for i, l, p, is_correct, is_scored in zip(*columns, strict=True):
            if is_scored and math.isfinite(l) and math.isfinite(p):
                batch[i] = (l, p, is_correct)
        for i, observation in batch.items():
            self.seen.setdefault(i, []).append(observation)

    def average(self, values: list[float]) -> float:
        value = values[0]
        for x in values[1:]:
            value = self.decay * value + (1 - self.decay) * x
        return value

    def at(self, i: int) -> tuple[float, float, float, float, int, int, bool]:
        if i not in self.seen:
            return NAN, NAN, NAN, NAN, 0, 0, False
        losses, confidences, correct = (list(x) for x in zip(*self.seen[i], strict=True))
        forgotten = sum(a and not b for a, b in pairwise(correct))
        averages = self.average(losses), self.average(confidences)
        return *averages, np.mean(confidences), np.std(confidences), len(losses), forgotten, correct[-1]


def observations(T: int, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of T utterances drawn from the ids, some of them several times."""
    chosen = ids[torch.randint(len(ids), (T,))]
    return chosen, 3 * torch.rand(T), torch.rand(T), torch.rand(T) > 0.4


def assert_same(scores: RunningScores, expected: ByHand, ids: Tensor) -> None:
    columns = zip(*(expected.at(i) for i in ids.tolist()), strict=True)
    for name, got, wanted in zip(_running_rows.RunningStatistics._fields, scores.at(ids), columns, strict=True):
        wanted = torch.tensor(wanted, dtype=torch.float64)
        near = partial(torch.testing.assert_close, rtol=2e-6, atol=2e-6, equal_nan=True, msg=name)
        near(got.double(), wanted)
        if scores.keys is None:
            assert torch.equal(got.nan_to_num(), getattr(scores, name)[ids].nan_to_num())


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("decay", [0.9, 0.0, 0.3])
def test_running_scores_are_those_of_a_dictionary(keyed, decay):
    ids = torch.tensor([-(2**62), -7, 0, 3, 5, 8, 13, 2**40, 2**63 - 1]) if keyed else torch.arange(9)
    scores, expected = RunningScores(9, decay=decay, keys=ids if keyed else None), ByHand(decay)
    for step, T in enumerate((4, 0, 1, 9, 30, 2, 17, 64, 5, 9)):
        batch = observations(T, ids[:-1])  # the last is never seen
        for value in (NAN, INF, -INF):
            batch[1][torch.rand(T) < 0.05] = value
            batch[2][torch.rand(T) < 0.05] = value
        scored = None if step % 2 else torch.rand(T) > 0.2
        scores.update(*batch, scored=scored)
        expected.update(*batch, scored)
        assert_same(scores, expected, ids)
    assert sum(map(len, expected.seen.values())) > 30
    assert scores.num_forgotten.sum() > 3


def test_running_scores_of_what_nobody_has_seen():
    scores = RunningScores(3)
    for name in ("loss", "confidence", "mean_confidence", "variability"):
        assert getattr(scores, name).isnan().all()
        assert (getattr(scores, name).dtype, getattr(scores, name).shape) == (torch.float32, (3,))
    assert scores.num_observed.tolist() == scores.num_forgotten.tolist() == [0, 0, 0]
    assert (scores.num_observed.dtype, scores.is_correct.dtype) == (torch.int32, torch.bool)
    assert not scores.is_correct.any()


def test_running_scores_of_several_observations_of_one_utterance_the_last_scored_one_counts():
    scores = RunningScores(2)
    ids, loss = torch.tensor([1, 0, 1, 1, 1]), torch.tensor([1.0, 5.0, 2.0, 3.0, NAN])
    correct = torch.tensor([True, True, True, False, True])
    scored = torch.tensor([True, True, True, False, True])
    scores.update(ids, loss, loss / 10, correct, scored=scored)
    assert scores.loss.tolist() == [5.0, 2.0]
    assert scores.num_observed.tolist() == [1, 1]
    assert scores.is_correct.tolist() == [True, True]


@pytest.mark.parametrize("repeats", [1, 7, 500])
def test_running_scores_depend_on_the_order_of_an_utterances_own_observations_alone(repeats):
    shape = 20_000 // repeats, repeats  # large enough for several threads
    ids = torch.arange(shape[0])[:, None].expand(shape)
    batch = ids, torch.rand(shape), torch.rand(shape), torch.rand(shape) > 0.5
    by_utterance, by_turn = RunningScores(shape[0]), RunningScores(shape[0])
    for _ in range(2):
        by_utterance.update(*(x.reshape(-1) for x in batch))
        by_turn.update(*(x.T.reshape(-1) for x in batch))
    assert torch.equal(by_utterance.rows, by_turn.rows)
    assert torch.equal(by_utterance.loss, batch[1][:, -1])


def test_running_scores_in_plain_torch_write_each_row_once_since_a_device_writes_in_any_order():
    class Written(TorchDispatchMode):
        rows: tuple[Tensor, ...] = ()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket is torch.ops.aten.index_copy_:
                self.rows += (args[2],)
            return func(*args, **(kwargs or {}))

    with Written() as written:
        row = torch.tensor([3, 1, 3, 4, 1, 3])
        _running_rows.update_with_torch(torch.zeros(5, 6), row, torch.rand(6), torch.rand(6), row > 1, None, 0.9)
    (rows,) = written.rows
    assert sorted(rows[rows != 4].tolist()) == [1, 3]


def test_running_scores_count_every_change_from_right_to_wrong():
    scores = RunningScores(1)
    for correct, forgotten in ((0, 0), (1, 0), (1, 0), (0, 1), (0, 1), (1, 1), (0, 2), (1, 2)):
        scores.update(torch.tensor([0]), torch.ones(1), torch.ones(1), torch.tensor([bool(correct)]))
        assert scores.num_forgotten.tolist() == [forgotten]
        assert scores.is_correct.tolist() == [bool(correct)]


def test_running_scores_variability_survives_a_mean_far_from_zero():
    scores, generator = RunningScores(1, decay=0.5), np.random.default_rng(0)
    confidences = (0.999 + 1e-4 * generator.standard_normal(300)).astype(np.float32)
    for p in confidences:
        scores.update(torch.tensor([0]), torch.ones(1), torch.tensor([p]), torch.tensor([True]))
    exact = confidences.astype(np.float64)
    assert scores.variability.item() == pytest.approx(exact.std(), rel=0.01)
    assert scores.mean_confidence.item() == pytest.approx(exact.mean(), rel=1e-5)


@pytest.mark.parametrize("keys", [None, torch.tensor([1, 3, 8])])
def test_running_scores_unknown_ids_of_a_device_change_nothing_and_read_as_never_seen(keys):
    scores = RunningScores(3, keys=keys)
    ids = torch.arange(3) if keys is None else keys
    scores.update(ids, torch.ones(3), torch.ones(3), torch.ones(3, dtype=torch.bool))
    before = scores.rows.clone()
    unknown = torch.tensor([-1, 4, 2**62, -(2**63), 2**63 - 1])
    row = scores._row_or_spare(unknown)  # what a device, which nobody looks at, makes of them
    assert row.tolist() == [3] * 5
    for update in (_running_rows.update, _running_rows.update_with_torch):
        update(scores.rows, row, torch.rand(5), torch.rand(5), torch.rand(5) > 0.5, None, 0.9)
        assert torch.equal(scores.rows, before)
    assert scores.rows[3].tolist() == [0.0] * 6
    assert _running_rows.statistics(scores.rows[row]).loss.isnan().all()
    assert scores._row_or_spare(ids).tolist() == [0, 1, 2]


@pytest.mark.host_only
@pytest.mark.parametrize("keyed", [False, True])
def test_running_scores_name_the_first_unknown_id_of_the_host(keyed):
    scores = RunningScores(3, keys=torch.tensor([0, 1, 2]) if keyed else None)
    before = scores.rows.clone()
    rule = "be keys of the store" if keyed else r"lie in \[0, 3\)"
    for ids, got in (([0, 7, 9], "7 at position 1"), ([-1, 5, 0], "-1 at position 0"), ([2, 1, 3], "3 at position 2")):
        batch = torch.tensor(ids), torch.ones(3), torch.ones(3), torch.ones(3, dtype=torch.bool)
        for call in (partial(scores.update, *batch), partial(scores.at, batch[0])):
            with pytest.raises(ValueError, match=rf"^RunningScores: ids must {rule} \(got {got}\)$"):
                call()
    assert torch.equal(scores.rows, before)


def test_running_scores_take_any_dtype_strides_and_inputs_with_a_gradient():
    ids, loss, confidence, correct = observations(40, torch.arange(9))
    loss, confidence = loss.half(), confidence.half()
    plain, other = RunningScores(9), RunningScores(9)
    plain.update(ids, loss.float(), confidence.float(), correct)
    strided = lambda x: torch.stack([x, x], 1)[:, 0]  # noqa: E731
    other.update(strided(ids.int()), strided(loss).requires_grad_(), confidence.double(), strided(correct))
    assert torch.equal(plain.rows, other.rows)
    assert not other.rows.requires_grad


def test_running_scores_are_not_rounded_by_a_model_in_half_precision():
    scores = RunningScores(4)
    scores.update(torch.arange(4), torch.rand(4), torch.rand(4), torch.ones(4, dtype=torch.bool))
    before = scores.rows.clone()
    torch.nn.ModuleList([scores]).half()
    assert torch.equal(scores.rows, before)


@pytest.mark.parametrize("keyed", [False, True])
def test_running_scores_take_at_most_32_bytes_an_utterance(keyed):
    N = 1000
    scores = RunningScores(N, keys=torch.arange(N) if keyed else None)
    size = sum(buffer.untyped_storage().nbytes() for buffer in scores.buffers())
    assert size <= (32 if keyed else 24) * N + 24  # one spare row
    assert len(list(scores.parameters())) == 0


def test_running_scores_compile_whole_once_for_all_batch_sizes():
    scores, plain, expected = RunningScores(50), RunningScores(50), ByHand(0.9)

    def step(ids: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor) -> Tensor:
        scores.update(ids, loss, confidence, correct)
        return scores.at(ids).loss

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for k, T in enumerate((11, 30, 7, 64, 2)):
        batch = observations(T, torch.arange(50))
        with torch._dynamo.config.patch(error_on_recompile=k > 0):
            got = compiled(*batch)
        plain.update(*batch)
        expected.update(*batch, None)
        assert torch.equal(got, plain.at(batch[0]).loss)
    assert torch.equal(scores.rows, plain.rows)
    assert_same(scores, expected, torch.arange(50))
    ids = torch.tensor([3, 50, -1])
    compiled(ids, torch.rand(3), torch.rand(3), torch.rand(3) > 0.5)
    assert int(scores.num_observed.sum()) == int(plain.num_observed.sum()) + 1


def saved(scores: RunningScores) -> dict[str, object]:
    """Its state after a file."""
    file = io.BytesIO()
    torch.save(scores.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("keyed", [False, True])
def test_running_scores_resume_in_the_middle_of_an_epoch_exactly(keyed):
    keys = torch.arange(20) * 3 if keyed else None
    make = partial(RunningScores, 20, keys=keys)
    batches = [observations(13, torch.arange(20) if keys is None else keys) for _ in range(6)]
    whole, first, second = make(), make(), make()
    for k, batch in enumerate(batches):
        whole.update(*batch)
        (first if k < 3 else second).update(*batch)
        if k == 2:
            second.load_state_dict(saved(first))
    assert torch.equal(whole.rows, second.rows)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"num_utterances": 5}, "num_utterances 4 there, 5 here"),
        ({"decay": 0.8}, "decay 0.9 there, 0.8 here"),
        ({"keys": torch.tensor([1, 2, 3, 4])}, "keys None there, '"),
    ],
)
def test_running_scores_refuse_a_state_of_other_settings_by_field(other, words):
    scores = RunningScores(**{"num_utterances": 4, "decay": 0.9} | other)
    before = scores.rows.clone()
    with pytest.raises(ValueError, match=f"^RunningScores: the state was saved with other settings \\({words}"):
        scores.load_state_dict(RunningScores(4).state_dict())
    assert torch.equal(scores.rows, before)


def test_running_scores_refuse_other_keys_and_other_states():
    keyed = [RunningScores(3, keys=torch.tensor(keys)) for keys in ([1, 2, 3], [1, 2, 4])]
    with pytest.raises(ValueError, match=r"\(keys '[0-9a-f]{64}' there, '[0-9a-f]{64}' here\)"):
        keyed[0].load_state_dict(keyed[1].state_dict())
    state = keyed[0].state_dict()
    for wrong, words in (
        ({"config": {}}, "of version 1"),
        ({}, "that of a RunningScores"),
        (3, "that of a RunningScores"),
    ):
        with pytest.raises(ValueError, match=words):
            keyed[0].load_state_dict({**state, "_extra_state": wrong})


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"num_utterances": 0}, ValueError, r"num_utterances must be at least 1 \(got 0\)"),
        ({"num_utterances": 2.0}, TypeError, r"num_utterances must be an integer \(got float\)"),
        ({"num_utterances": True}, TypeError, r"num_utterances must be an integer \(got bool\)"),
        ({"decay": 1.0}, ValueError, r"decay must lie in \[0, 1\) \(got 1.0\)"),
        ({"decay": NAN}, ValueError, r"decay must lie in \[0, 1\) \(got nan\)"),
        ({"decay": "0.9"}, TypeError, r"decay must be a number \(got str\)"),
        ({"keys": torch.tensor([1, 2])}, ValueError, r"keys must be one for each of 3 utterances \(got 2\)"),
        ({"keys": torch.tensor([1, 4, 4])}, ValueError, r"ascending, each once \(got 4 after 4 at position 2\)"),
        ({"keys": torch.tensor([1, 0, 4])}, ValueError, r"ascending, each once \(got 0 after 1 at position 1\)"),
        ({"keys": torch.tensor([1, 2, 3]).int()}, TypeError, r"keys must hold int64 \(got torch.int32\)"),
        ({"keys": [1, 2, 3]}, TypeError, r"keys must be a tensor \(got list\)"),
    ],
)
def test_running_scores_refuse_arguments_by_name(arguments, error, words):
    with pytest.raises(error, match=f"^RunningScores: .*{words}"):
        RunningScores(**{"num_utterances": 3} | arguments)


@pytest.mark.parametrize(
    ("argument", "value", "error", "words"),
    [
        ("ids", torch.rand(2), TypeError, "ids must hold integers"),
        ("ids", torch.zeros(1, 2).long(), ValueError, "ids must have 1 dimension"),
        ("loss", torch.rand(3), ValueError, r"loss must have shape \(2,\) \(got \(3,\)\)"),
        ("confidence", torch.ones(2).long(), TypeError, "confidence must hold floating point numbers"),
        ("correct", torch.ones(2), TypeError, "correct must hold booleans"),
        ("scored", torch.ones(2), TypeError, "scored must hold booleans"),
        ("loss", torch.rand(2, device="meta"), ValueError, "all tensors must be on one device"),
        ("ids", torch.zeros(2, device="meta").long(), ValueError, "all tensors must be on one device"),
    ],
)
def test_running_scores_refuse_observations_that_do_not_fit(argument, value, error, words):
    batch = {"ids": torch.arange(2), "loss": torch.rand(2), "confidence": torch.rand(2)}
    batch |= {"correct": torch.ones(2, dtype=torch.bool), argument: value}
    scores = RunningScores(2)
    with pytest.raises(error, match=f"^RunningScores: {words}"):
        scores.update(**batch)
    assert not scores.rows.any()
