"""The five hooks of CurML, driven in the order in which its trainers call them.

CurML is on no package index. `train` below calls the hooks as `curriculum/trainers/image_classifier.py` of
THUMNLab/CurML does, and `train_as_curbench` as the trainers of THUMNLab/CurBench do.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from spcl_fast import ops, pacing
from spcl_fast.integrations.curml import SelfPaced

N = 30
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "curml_hooks.py"


class Net(nn.Linear):
    """A linear classifier that notes the mode of every forward pass."""

    def __init__(self):
        super().__init__(4, 3)
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return super().forward(x)


def parts(seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = torch.randn(N, 4, generator=generator), torch.randint(3, (N,), generator=generator)
    torch.manual_seed(1)
    net = Net()
    return net, inputs, labels, torch.optim.SGD(net.parameters(), lr=0.1)


def train(cl, epochs, loader, net, optimizer, criterion=None):
    criterion = criterion or nn.CrossEntropyLoss(reduction="none")
    cl.data_prepare(loader)
    cl.model_prepare(net, torch.device("cpu"), epochs, criterion, optimizer, None)
    seen = []
    for _ in range(epochs):
        epoch_loader = cl.data_curriculum(loader)
        net = cl.model_curriculum(net)
        net.train()
        for data in epoch_loader:
            inputs, labels, indices = data[0], data[1], data[2]
            optimizer.zero_grad()
            loss = cl.loss_curriculum(criterion, net(inputs), labels, indices)
            loss.backward()
            optimizer.step()
            seen.append((indices, inputs, labels, loss.item()))
        yield seen
        seen = []


def losses(net, inputs, labels):
    with torch.no_grad():
        return nn.functional.cross_entropy(nn.functional.linear(inputs, net.weight, net.bias), labels, reduction="none")


def test_hard_epochs_have_the_easiest_samples_of_the_present_model():
    net, inputs, labels, optimizer = parts()
    cl = SelfPaced(pacing.LinearPace(start=0.3, total=2))
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=7)
    before = losses(net, inputs, labels)
    for epoch, seen in enumerate(train(cl, 3, loader, net, optimizer)):
        indices = torch.cat([step[0] for step in seen])
        expected = before.argsort()[: (9, 20, 30)[epoch]]  # ceil(0.3 * 30), ceil(0.65 * 30)
        assert sorted(indices.tolist()) == sorted(expected.tolist())
        for own, x, y, _ in seen:  # indices name the samples of their own batch
            torch.testing.assert_close(x, inputs[own])
            torch.testing.assert_close(y, labels[own])
        before = losses(net, inputs, labels)


def test_formula_of_curml_rounds_down_and_takes_one_at_least():
    for pace, expected in ((0.31, 9), (0.001, 1), (1.0, N)):
        net, inputs, labels, optimizer = parts()
        cl = SelfPaced(pace, formula="curml")
        (seen,) = train(cl, 1, DataLoader(TensorDataset(inputs, labels), batch_size=64), net, optimizer)
        assert sum(len(step[0]) for step in seen) == expected


@pytest.mark.parametrize(
    ("weighting", "parameters"), [("linear", {}), ("logistic", {}), ("polynomial", {"degree": 3.0})]
)
def test_soft_weights_multiply_the_loss_of_their_samples(weighting, parameters):
    net, inputs, labels, optimizer = parts()
    cl = SelfPaced(0.5, weighting=weighting, weighting_parameters=parameters)
    difficulty = losses(net, inputs, labels)
    epochs = train(cl, 1, DataLoader(TensorDataset(inputs, labels), batch_size=N), net, optimizer)
    ((indices, _, _, loss),) = next(epochs)
    threshold = difficulty.sort().values[14]  # the 15th of 30
    expected = ops.self_paced_weights(difficulty, threshold, scheme=weighting, **parameters)
    torch.testing.assert_close(cl.weights, expected)
    assert sorted(indices.tolist()) == list(range(N))
    assert loss == pytest.approx((difficulty * expected).mean().item(), rel=1e-5)
    assert 0 < int((expected > 0).sum()) <= N


def test_weighting_may_be_a_function_and_groups_are_of_the_samples():
    net, inputs, labels, _ = parts()
    inputs[3] = float("nan")
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=N)
    cl = SelfPaced(
        0.5, weighting=lambda rho, threshold, power: (1 + rho / threshold) ** -power, weighting_parameters={"power": 2}
    )
    cl.data_prepare(loader)
    cl.model_prepare(net, "cpu", 1, nn.CrossEntropyLoss(reduction="none"), None, None)
    cl.data_curriculum()
    known = cl.difficulty[~cl.difficulty.isnan()]
    expected = (1 + cl.difficulty / known.sort().values[14]) ** -2.0  # the 15th of 29
    torch.testing.assert_close(cl.weights, expected.nan_to_num(0.0))
    diverse = SelfPaced(0.5, weighting="spld", weighting_parameters={"gamma": 0.5, "groups": labels})
    diverse.data_prepare(loader)
    diverse.model_prepare(net, "cpu", 1, nn.CrossEntropyLoss(reduction="none"), None, None)
    diverse.data_curriculum()
    assert 15 < diverse.weights.sum() < 29  # the first of each class are forgiven more


def test_scoring_is_in_evaluation_mode_and_leaves_mode_and_gradients_alone():
    net, inputs, labels, _ = parts()
    cl = SelfPaced(0.5)
    cl.data_prepare(DataLoader(TensorDataset(inputs, labels), batch_size=16))
    cl.model_prepare(net, "cpu", 1, nn.CrossEntropyLoss(reduction="none"), None, None)
    for mode in (True, False):
        net.modes.clear()
        cl.data_curriculum(net.train(mode))
        assert net.modes == [False, False]
        assert net.training is mode
    assert net.weight.grad is None
    assert not cl.difficulty.requires_grad


def test_nan_is_never_easy():
    net, inputs, labels, optimizer = parts()
    inputs[4] = float("nan")
    cl = SelfPaced(1.0)
    (seen,) = train(cl, 1, DataLoader(TensorDataset(inputs, labels), batch_size=8), net, optimizer)
    assert sorted(torch.cat([step[0] for step in seen]).tolist()) == [i for i in range(N) if i != 4]


def test_curbench_gives_less_and_samples_that_are_mappings():
    """CurBench: `data_prepare(loader, metric=...)`, then the hooks without loader, model and criterion."""

    class Dictionary(nn.Linear):
        def forward(self, x):
            return (super().forward(x),)

    net, inputs, labels, _ = parts()
    net = Dictionary(4, 3)
    data = [{"x": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]
    cl = SelfPaced(0.5)
    cl.data_prepare(DataLoader(data, batch_size=8), metric=None)
    cl.model_prepare(net, "cpu", 1, nn.CrossEntropyLoss(reduction="none"), None, None)
    seen = []
    loader, net = cl.data_curriculum(), cl.model_curriculum()
    for batch in loader:
        assert set(batch) == {"x", "labels", "indices"}
        outputs = net(batch["x"])[0]
        loss = cl.loss_curriculum(outputs, batch["labels"], batch["indices"])
        torch.testing.assert_close(loss, nn.functional.cross_entropy(outputs, batch["labels"]))
        seen += batch["indices"].tolist()
    assert len(seen) == len(set(seen)) == 15


def test_collate_and_workers_are_those_of_the_loader():
    def collate(samples):
        return torch.stack([x for x, _ in samples]) * 10, torch.stack([y for _, y in samples])

    net, inputs, labels, optimizer = parts()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=6, collate_fn=collate)
    cl = SelfPaced(1.0)
    (seen,) = train(cl, 1, loader, net, optimizer)
    indices, x, _, _ = seen[0]
    torch.testing.assert_close(x, inputs[indices] * 10)


def test_faults_are_named():
    with pytest.raises(ValueError, match=r"weighting must be one of .* \(got 'soft'\)"):
        SelfPaced(weighting="soft")
    with pytest.raises(TypeError, match="degree"):
        SelfPaced(weighting="polynomial")
    with pytest.raises(ValueError, match=r"formula must be one of .* \(got 'both'\)"):
        SelfPaced(formula="both")
    net, inputs, labels, optimizer = parts()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=10)
    for pace in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"pace must lie in \(0, 1\] \(got .* for epoch 0\)"):
            next(train(SelfPaced(lambda _, pace=pace: pace), 1, loader, net, optimizer))
    with pytest.raises(ValueError, match=r"criterion must give one loss a sample.*\(got shape \(\) for 10 samples\)"):
        next(train(SelfPaced(), 1, loader, net, optimizer, nn.CrossEntropyLoss()))
    with pytest.raises(ValueError, match=r"training set must have a sample \(got none\)"):
        next(train(SelfPaced(), 1, DataLoader([], batch_size=2), net, optimizer))
    with pytest.raises(ValueError, match=r"loader must have a batch size \(got None\)"):
        SelfPaced().data_prepare(DataLoader([1], batch_size=None))


def test_example_runs(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "epoch 4: mean weight" in capsys.readouterr().out
