"""Running scores of every utterance of a corpus, kept over the epochs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spcl_fast import _distributed, _running_rows
from spcl_fast._running_rows import COLUMNS, CONFIDENCE, COUNT, LOSS, MEAN
from spcl_fast._running_rows import RunningStatistics as RunningStatistics
from spcl_fast._state import KeepsDtypes, differences
from spcl_fast.ops import _check

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

STATE_VERSION = 1


class RunningScores(KeepsDtypes):
    """What each utterance of a corpus showed so far: averages, variability and forgetting, by its id.

    Of the loss and of the confidence an exponential moving average, `new <- decay old + (1 - decay) x`, which begins at
    the first observation; of the confidence also the mean and the standard deviation over all observations, the axes of
    the data map (Swayamdipta et al. 2020, arXiv 2009.10795: hard to learn is a low mean, ambiguous a high variability);
    and how often a right prediction was followed by a wrong one (forgetting events, Toneva et al. 2019, arXiv
    1812.05159).

    24 bytes an utterance, 32 with keys, on the device of the module. Not for two threads at a time.

    Args:
        num_utterances: N, at least 1.
        decay: of the averages, in [0, 1).
        keys: None, where ids are row numbers 0 to N - 1; or `int64[N]`, ascending, each once, where ids are these;
            copied. The store lies on their device, and they are no part of its state: whoever loads it has them.

    Its state loads with `weights_only=True` and continues at any step; other settings are refused by name. An utterance
    is counted exactly up to 2^24 observations.

    Raises:
        TypeError, ValueError: an argument out of its domain.

    Example:
        >>> import torch
        >>> from spcl_fast import RunningScores
        >>> scores = RunningScores(4, decay=0.5)
        >>> right, wrong = torch.tensor([True, True]), torch.tensor([False, True])
        >>> scores.update(torch.tensor([0, 2]), torch.tensor([0.5, 1.0]), torch.tensor([0.6, 0.4]), right)
        >>> scores.update(torch.tensor([0, 2]), torch.tensor([1.5, 1.0]), torch.tensor([0.2, 0.4]), wrong)
        >>> scores.loss
        tensor([1., nan, 1., nan])
        >>> scores.at(torch.tensor([0])).variability, scores.num_forgotten
        (tensor([0.2000]), tensor([1, 0, 0, 0], dtype=torch.int32))
    """

    num_utterances: int
    decay: float
    rows: Tensor
    keys: Tensor | None
    _config: dict[str, Any]

    def __init__(self, num_utterances: int, *, decay: float = 0.9, keys: Tensor | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        if isinstance(num_utterances, bool) or not isinstance(num_utterances, int):
            raise TypeError(f"{name}: num_utterances must be an integer (got {type(num_utterances).__name__})")
        if num_utterances < 1:
            raise ValueError(f"{name}: num_utterances must be at least 1 (got {num_utterances})")
        decay = _check.number(name, "decay", decay, "lie in [0, 1)", lambda x: 0 <= x < 1)
        if keys is not None:
            _require_keys(name, keys, num_utterances)
        self.num_utterances = num_utterances
        self.decay = decay
        self._config = {
            "num_utterances": num_utterances,
            "decay": self.decay,
            "keys": None if keys is None else hashlib.sha256(keys.cpu().numpy().tobytes()).hexdigest(),
        }
        device = None if keys is None else keys.device
        self.register_buffer("rows", torch.zeros(num_utterances + 1, COLUMNS, dtype=torch.float32, device=device))
        self.register_buffer("keys", None if keys is None else keys.detach().clone(), persistent=False)

    @property
    def config(self) -> dict[str, Any]:
        """What decides its numbers, as plain Python; keys by their checksum."""
        return dict(self._config)

    @torch.no_grad()
    def update(
        self, ids: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor, *, scored: Tensor | None = None
    ) -> None:
        """Takes in one observation of each utterance of a batch; nothing waits for the device.

        Observations that are not scored, or whose loss or confidence is NaN or Inf, are left out: one of them would
        stay in an average for ever. Of several of one id in a batch the last that counts does, on every device.

        Args:
            ids: `int[T]`. On the host each must be known; on a device, and under `torch.compile`, an unknown one is
                left out.
            loss: `float[T]`.
            confidence: `float[T]`.
            correct: `bool[T]`, whether the prediction was right.
            scored: `bool[T]`; None: all are.

        Raises:
            TypeError, ValueError: what does not fit, or the first id that is not known.

        Example:
            >>> import torch
            >>> from spcl_fast import RunningScores
            >>> scores = RunningScores(3)
            >>> ids, loss = torch.tensor([2, 0, 2]), torch.tensor([0.5, float("nan"), 1.5])
            >>> scores.update(ids, loss, torch.exp(-loss), loss < 0.7)
            >>> scores.num_observed.tolist(), scores.loss[2].item()  # NaN does not count, the last of two does
            ([0, 0, 1], 1.5)
        """
        name = type(self).__name__
        # The compiled op checks all it is given, so the usual call goes straight to it. What it refuses comes here.
        observed = (ids, loss, confidence, correct, scored)
        if self.keys is None and _running_rows.taken_at_once(self.rows, *observed, self.decay):
            return
        row = self._row_of(ids)
        _check.tensor(name, "loss", loss, 1, _check.FLOATS, "floating point numbers")
        _check.tensor(name, "confidence", confidence, 1, _check.FLOATS, "floating point numbers")
        _check.tensor(name, "correct", correct, 1, (torch.bool,), "booleans")
        columns = {"loss": loss, "confidence": confidence, "correct": correct}
        if scored is not None:
            columns["scored"] = _check.tensor(name, "scored", scored, 1, (torch.bool,), "booleans")
        for argument, value in columns.items():
            _check.shaped(name, argument, value, tuple(row.shape), row.device, "ids")
        _running_rows.update(self.rows, row, loss.float(), confidence.float(), correct, scored, self.decay)

    def at(self, ids: Tensor) -> RunningStatistics:
        """What is known of these utterances, `[T]` each; ids as for `update`, an unknown one reads as never seen.

        Example:
            >>> import torch
            >>> from spcl_fast import RunningScores
            >>> scores = RunningScores(2, keys=torch.tensor([10, 17]))
            >>> scores.update(torch.tensor([17]), torch.ones(1), torch.tensor([0.25]), torch.tensor([True]))
            >>> known = scores.at(torch.tensor([17, 10]))
            >>> known.mean_confidence.tolist(), known.is_correct.tolist()
            ([0.25, nan], [True, False])
        """
        return _running_rows.statistics(self.rows.index_select(0, self._row_of(ids)))

    @property
    def loss(self) -> Tensor:
        """Moving average of the loss, `float32[N]`; NaN where there was no observation."""
        return _running_rows.average(self.rows[:-1], LOSS)

    @property
    def confidence(self) -> Tensor:
        """Moving average of the confidence, `float32[N]`; NaN where there was no observation."""
        return _running_rows.average(self.rows[:-1], CONFIDENCE)

    @property
    def mean_confidence(self) -> Tensor:
        """Mean of the confidence over all observations, `float32[N]`; NaN where there was none."""
        return _running_rows.average(self.rows[:-1], MEAN)

    @property
    def variability(self) -> Tensor:
        """Standard deviation of the confidence over all n observations (divided by n), `float32[N]`; NaN for none."""
        return _running_rows.variability(self.rows[:-1])

    @property
    def num_observed(self) -> Tensor:
        """Number of observations, `int32[N]`."""
        return _running_rows.num_observed(self.rows[:-1])

    @property
    def num_forgotten(self) -> Tensor:
        """Number of forgetting events, `int32[N]`: right at one observation, wrong at the next."""
        return _running_rows.num_forgotten(self.rows[:-1])

    @property
    def is_correct(self) -> Tensor:
        """Whether the last observation was right, `bool[N]`; False where there was none."""
        return _running_rows.is_correct(self.rows[:-1])

    @torch.no_grad()
    def merge(self, process_group: ProcessGroup | None = None) -> None:
        """Gives all processes of a group one store, after an epoch in which each observed utterances of its own.

        Rows that were observed since the last merge are exchanged; what several processes observed, the one of the
        lowest rank gives. The rows of all others have to be equal already, as after a merge or a load. Every process of
        the group calls it, also one that observed nothing; no other method communicates.

        Args:
            process_group: None: this process alone, and there is nothing to exchange.

        Raises:
            ValueError: on every process, where the settings differ.

        Example:
            >>> from spcl_fast import RunningScores
            >>> scores = RunningScores(3)
            >>> scores.merge()  # after an epoch; with a group: scores.merge(torch.distributed.group.WORLD)
        """
        rows = self.rows[:-1]
        if process_group is not None:
            _require_same_everywhere(type(self).__name__, self._config, process_group)
            _distributed.merge_rows(rows[:, COUNT] < 0, [rows], process_group)
        rows[:, COUNT].abs_()

    def get_extra_state(self) -> dict[str, Any]:
        """The part of the state that is not a tensor."""
        return {"version": STATE_VERSION, "config": self.config}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Nothing is left to take: the settings are compared before anything is loaded."""

    def extra_repr(self) -> str:
        """Settings, for `print`."""
        return f"{self.num_utterances}, decay={self.decay}, keys={self.keys is not None}"

    def _row_of(self, ids: Tensor) -> Tensor:
        """The row of each id, int64; of one that is not known the spare row, or an error where it can be seen."""
        name, count = type(self).__name__, self.num_utterances
        _check.tensor(name, "ids", ids, 1, _check.INTEGERS, "integers")
        _check.shaped(name, "ids", ids, tuple(ids.shape), self.rows.device, "the store")
        ids = ids.long()
        is_seen = ids.device.type == "cpu" and not torch.compiler.is_compiling()
        if is_seen and self.keys is None:
            low, high = map(int, ids.aminmax()) if ids.numel() else (0, 0)
            if low >= 0 and high < count:
                return ids
        row = self._row_or_spare(ids)
        if is_seen and bool((row == count).any()):
            t = int((row == count).nonzero()[0])
            rule = f"lie in [0, {count})" if self.keys is None else "be keys of the store"
            raise ValueError(f"{name}: ids must {rule} (got {int(ids[t])} at position {t})")
        return row

    def _row_or_spare(self, ids: Tensor) -> Tensor:
        """The row of each id, the spare one where there is none."""
        if self.keys is None:
            return torch.where((ids >= 0) & (ids < self.num_utterances), ids, self.num_utterances)
        row = torch.searchsorted(self.keys, ids).clamp(max=self.num_utterances - 1)
        return torch.where(self.keys[row] == ids, row, self.num_utterances)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state = state_dict.get(prefix + "_extra_state")
        if state is not None:  # refused before anything of this module has changed
            _require_same_settings(type(self).__name__, state, self._config)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _require_keys(name: str, keys: Tensor, count: int) -> None:
    """TypeError or ValueError unless they are `int64[count]`, ascending; waits for the device."""
    _check.tensor(name, "keys", keys, 1, (torch.int64,), "int64")
    if keys.numel() != count:
        raise ValueError(f"{name}: keys must be one for each of {count} utterances (got {keys.numel()})")
    falls = keys[1:] <= keys[:-1]
    if bool(falls.any()):
        t = int(falls.nonzero()[0])
        got = f"{int(keys[t + 1])} after {int(keys[t])} at position {t + 1}"
        raise ValueError(f"{name}: keys must be ascending, each once (got {got})")


def _require_same_everywhere(name: str, config: Mapping[str, Any], group: ProcessGroup) -> None:
    """ValueError on every process of a group unless all have these settings."""
    from torch import distributed

    configs: list[Any] = [None] * group.size()
    distributed.all_gather_object(configs, config, group)
    for rank, other in enumerate(configs):
        if differ := differences(other, configs[0]):
            where = f"there is process {rank}, here is process 0"
            raise ValueError(f"{name}: merge takes stores of the same settings ({where}: {differ})")


def _require_same_settings(name: str, state: Any, config: Mapping[str, Any]) -> None:
    """ValueError unless a state is one of this class, this version and these settings."""
    if not isinstance(state, Mapping) or not isinstance(state.get("config"), Mapping):
        raise ValueError(f"{name}: the state must be that of a {name} (got something else)")
    if state.get("version") != STATE_VERSION:
        raise ValueError(f"{name}: the state must be of version {STATE_VERSION} (got {state.get('version')})")
    if differ := differences(state["config"], config):
        raise ValueError(f"{name}: the state was saved with other settings ({differ})")
