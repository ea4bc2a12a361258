"""A curriculum with the five hooks by which CurML and CurBench drive theirs.

CurML and CurBench (THUMNLab/CurML, THUMNLab/CurBench) train with an object that is shown data and model once, gives the
loader and the model of every epoch, and weighs the loss of every batch. Neither is imported here: their trainers take
the hooks one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from spcl_fast import _options, ops
from spcl_fast.weighting import Weighting, resolve

__all__ = ["IndexedDataset", "SelfPaced"]


class IndexedDataset(Dataset):
    """A dataset whose samples come with their index: `(sample, index)`.

    Example:
        >>> from spcl_fast.integrations.curml import IndexedDataset
        >>> IndexedDataset(["a", "b"])[1]
        ('b', 1)
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.dataset[index], index

    def __len__(self) -> int:
        return len(self.dataset)


class SelfPaced:
    """Self-paced learning for the trainers of CurML and CurBench, which take it hook by hook.

    At the start of every epoch the present model scores the whole training set; the difficulty of a sample is its loss.
    The easiest samples, a fraction of all that the pace says, are the data of the epoch (`weighting="hard"`); or the
    hardest of these gives the threshold of the weights that all samples get in their loss. It takes the place of their
    `SelfPaced`, with these differences: it scores in evaluation mode and keeps no gradient; it takes the samples that
    it found easy, where one revision of CurML takes the first of the file; a NaN is never easy; the loader keeps
    workers and `collate_fn`.

    The hooks are `data_prepare`, `model_prepare`, `data_curriculum`, `model_curriculum` and `loss_curriculum`, with the
    arguments of CurML, or with those that CurBench leaves of them.

    Args:
        pace: the fraction in (0, 1], or what gives it for a 0-based epoch, such as a pace of `spcl_fast.pacing`.
        weighting: scheme of `ops.self_paced_weights`, a function `f(difficulty, threshold, **parameters)`, or the name
            of one (`spcl_fast.weighting`); "hard" leaves out samples instead of weighing them.
        weighting_parameters: those of the scheme or function; `groups` of "spld" is `int[N]`.
        formula: "paper" takes ceil(pace n) of n samples; "curml" takes int(pace n) as CurML and CurBench do, but one at
            least.

    Raises:
        TypeError: a parameter that the scheme does not have, or one that is missing.
        ValueError: an unknown scheme or formula, a parameter out of its domain; in a hook, a pace outside (0, 1], a
            loader without a batch size, or a criterion that does not give one loss a sample.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader
        >>> from spcl_fast.integrations.curml import SelfPaced
        >>> data = [(torch.tensor([x]), 1) for x in (3.0, -1.0, 2.0, 0.0)]
        >>> cl = SelfPaced(pace=lambda epoch: 0.5 if epoch == 0 else 1.0)
        >>> cl.data_prepare(DataLoader(data, batch_size=4))
        >>> net, criterion = torch.nn.Linear(1, 2), torch.nn.CrossEntropyLoss(reduction="none")
        >>> _ = net.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]), "bias": torch.zeros(2)})
        >>> cl.model_prepare(net, "cpu", 2, criterion, None, None)
        >>> inputs, labels, indices = next(iter(cl.data_curriculum()))
        >>> sorted(indices.tolist())
        [0, 2]
    """

    name = "self_paced"

    def __init__(
        self,
        pace: float | Callable[[int], float] = 1.0,
        *,
        weighting: str | Weighting = "hard",
        weighting_parameters: Mapping[str, Any] | None = None,
        formula: str = "paper",
    ) -> None:
        _options.choice("SelfPaced", "formula", formula, ("paper", "curml"))
        self.parameters = dict(weighting_parameters or {})
        self._function: Weighting | None = None
        if weighting in _options.NUMBERS:
            _options.weighting("SelfPaced", weighting, self.parameters)
        else:
            weighting, self._function = resolve("SelfPaced", weighting, self.parameters)
        self.pace = pace
        self.weighting = weighting
        self.formula = formula
        self.epoch = 0  # of the next `data_curriculum`
        self.difficulty: Tensor | None = None  # [N], as last scored
        self.weights: Tensor | None = None  # [N], of the present epoch

    def data_prepare(self, loader: DataLoader, **kwargs: Any) -> None:
        """Takes the training set; its samples get their index, last in a sequence or as "indices" of a mapping.

        Example:
            >>> from torch.utils.data import DataLoader
            >>> from spcl_fast.integrations.curml import SelfPaced
            >>> cl = SelfPaced()
            >>> cl.data_prepare(DataLoader([(0.5, 1), (1.5, 0), (2.5, 0)], batch_size=2))
            >>> cl.data_size, cl.n_batches
            (3, 2)
        """
        if loader.batch_size is None:
            raise ValueError("SelfPaced: loader must have a batch size (got None)")
        self.dataset = IndexedDataset(loader.dataset)
        self.data_size = len(self.dataset)
        self.batch_size = loader.batch_size
        self.n_batches = -(-self.data_size // self.batch_size)
        self._loader = partial(
            DataLoader,
            batch_size=loader.batch_size,
            collate_fn=_CollateWithIndices(loader.collate_fn),
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
        )

    def model_prepare(
        self,
        net: nn.Module,
        device: torch.device | str,
        epochs: int,
        criterion: Callable[[Tensor, Tensor], Tensor],
        optimizer: Any,
        lr_scheduler: Any,
        **kwargs: Any,
    ) -> None:
        """Takes the model and the criterion, which has to give one loss a sample; the rest is not looked at.

        Example:
            >>> import torch
            >>> from spcl_fast.integrations.curml import SelfPaced
            >>> cl = SelfPaced()
            >>> cl.model_prepare(torch.nn.Linear(1, 2), "cpu", 3, torch.nn.L1Loss(reduction="none"), None, None)
            >>> cl.model_curriculum().out_features
            2
        """
        self.net = net
        self.device = device
        self.criterion = criterion

    def data_curriculum(self, loader: DataLoader | None = None, **kwargs: Any) -> DataLoader:
        """Scores the training set and gives the loader of an epoch, shuffled by torch's generator.

        Example:
            >>> import torch
            >>> from torch.utils.data import DataLoader
            >>> from spcl_fast.integrations.curml import SelfPaced
            >>> data = [(torch.tensor([x]), torch.tensor([x])) for x in (0.0, 3.0, -1.0, 2.0)]
            >>> cl = SelfPaced(pace=0.5, weighting="linear")
            >>> cl.data_prepare(DataLoader(data, batch_size=4))
            >>> cl.model_prepare(torch.nn.Tanh(), "cpu", 1, lambda z, y: (z - y).square()[:, 0], None, None)
            >>> len(next(iter(cl.data_curriculum()))[0])
            4
            >>> cl.weights.tolist()  # the second easiest gives the threshold
            [1.0, 0.0, 0.0, 0.0]
        """
        difficulty = self.difficulty = self._measure()
        fraction = self._fraction(int((~difficulty.isnan()).sum()))
        self.epoch += 1
        if self.weighting == "hard":
            chosen = ops.select_easiest(difficulty, fraction)
            self.weights = chosen.to(difficulty.dtype)
            return self._loader(Subset(self.dataset, chosen.nonzero()[:, 0].tolist()), shuffle=True)
        threshold = ops.difficulty_quantile(difficulty, fraction)
        if self._function is None:
            self.weights = ops.self_paced_weights(difficulty, threshold, scheme=self.weighting, **self.parameters)
        else:
            weights = self._function(difficulty, threshold.double(), **self.parameters).to(difficulty.dtype)
            self.weights = weights.masked_fill(difficulty.isnan(), 0)
        return self._loader(self.dataset, shuffle=True)

    def model_curriculum(self, net: nn.Module | None = None, **kwargs: Any) -> nn.Module:
        """The model as it is.

        Example:
            >>> from spcl_fast.integrations.curml import SelfPaced
            >>> SelfPaced().model_curriculum("a model")
            'a model'
        """
        return self.net if net is None else net

    def loss_curriculum(self, *arguments: Any, **kwargs: Any) -> Tensor:
        """The loss of a batch: `(criterion, outputs, labels, indices)`, or `(outputs, labels, indices)` of CurBench.

        A mean over the samples of the batch, also where some weigh nothing.

        Example:
            >>> import torch
            >>> from spcl_fast.integrations.curml import SelfPaced
            >>> cl, outputs, labels = SelfPaced(weighting="linear"), torch.tensor([1.0, 3.0]), torch.zeros(2)
            >>> cl.weights = torch.tensor([0.0, 0.5, 1.0])
            >>> cl.loss_curriculum(torch.nn.L1Loss(reduction="none"), outputs, labels, torch.tensor([2, 1])).item()
            1.25
        """
        outputs, labels, indices = arguments[-3:]
        criterion = arguments[0] if len(arguments) == 4 else self.criterion
        loss = _one_a_sample(criterion(outputs, labels), labels)
        if self.weighting == "hard" or self.weights is None:
            return loss.mean()
        return (loss * self.weights.to(loss.dtype)[torch.as_tensor(indices, device=loss.device)]).mean()

    def forward(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs, labels and indices of a batch; a subclass for data of other forms overrides this.

        As in their trainers the inputs are first and the labels second, or a mapping has "labels" and its other entries
        are arguments of a model that returns its outputs first.

        Example:
            >>> import torch
            >>> from spcl_fast.integrations.curml import SelfPaced
            >>> cl = SelfPaced()
            >>> cl.model_prepare(torch.nn.Identity(), "cpu", 1, torch.nn.L1Loss(reduction="none"), None, None)
            >>> outputs, labels, indices = cl.forward([torch.ones(2), torch.zeros(2), torch.tensor([5, 3])])
            >>> outputs.tolist(), indices.tolist()
            ([1.0, 1.0], [5, 3])
        """
        if isinstance(batch, Mapping):
            inputs = {name: x.to(self.device) for name, x in batch.items() if name not in ("labels", "indices")}
            return self.net(**inputs)[0], batch["labels"].to(self.device), batch["indices"]
        return self.net(batch[0].to(self.device)), batch[1].to(self.device), batch[-1]

    def _measure(self) -> Tensor:
        was_training = self.net.training
        self.net.eval()
        difficulty: Tensor | None = None
        with torch.no_grad():
            for batch in self._loader(self.dataset, shuffle=False):
                outputs, labels, indices = self.forward(batch)
                loss = _one_a_sample(self.criterion(outputs, labels), labels)
                if difficulty is None:
                    difficulty = loss.new_full((self.data_size,), float("nan"))
                difficulty[indices.to(loss.device)] = loss
        self.net.train(was_training)
        if difficulty is None:
            raise ValueError("SelfPaced: the training set must have a sample (got none)")
        return difficulty

    def _fraction(self, known: int) -> float:
        """The pace of the epoch, as the fraction of the known difficulties that makes it so many."""
        pace = self.pace(self.epoch) if callable(self.pace) else self.pace
        if not 0 < pace <= 1:
            raise ValueError(f"SelfPaced: pace must lie in (0, 1] (got {pace} for epoch {self.epoch})")
        if self.formula == "paper" or not known:
            return pace
        return max(1, int(known * pace)) / known


class _CollateWithIndices:
    """Collates samples as their loader does, and the indices beside them."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, pairs: list[tuple[Any, int]]) -> Any:
        batch = self.collate([sample for sample, _ in pairs])
        indices = torch.tensor([index for _, index in pairs])
        if isinstance(batch, Mapping):
            return {**batch, "indices": indices}
        return [*batch, indices]


def _one_a_sample(loss: Tensor, labels: Tensor) -> Tensor:
    if loss.ndim != 1 or loss.shape != labels.shape[:1]:
        raise ValueError(
            "SelfPaced: criterion must give one loss a sample, reduction='none' "
            f"(got shape {tuple(loss.shape)} for {len(labels)} samples)"
        )
    return loss
