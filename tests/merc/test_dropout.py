"""Dropout: how much is dropped, what becomes of the rest, and of its gradient."""

from __future__ import annotations

import pytest
import torch

from spcl_fast.merc.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.4, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_drops_its_share_and_keeps_the_mean(p, dtype):
    x = torch.ones(400, 501, dtype=dtype)
    y = Dropout(p)(x)
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs((y == 0).double().mean().item() - p) < 5 * deviation
    assert y.dtype == dtype
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)), rtol=1e-4, atol=0)


def test_dropout_treats_neighbours_rows_and_calls_independently():
    drop = Dropout(0.5)
    first, second = (drop(torch.ones(1000, 200)) - 1 for _ in range(2))
    for a, b in (
        (first[:, :-1], first[:, 1:]),
        (first[:-1], first[1:]),
        (first[:, :-4], first[:, 4:]),
        (first, second),
    ):
        assert abs((a * b).mean().item()) < 5 / a.numel() ** 0.5


def test_dropout_gives_the_gradient_of_what_it_kept():
    x = torch.randn(7, 3, 5, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, (y.detach() != 0) * 2.0)


def test_dropout_follows_the_seed():
    def draw(seed):
        torch.manual_seed(seed)
        return Dropout(0.3)(torch.ones(9, 11))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 0), (2, 3, 7)])
def test_dropout_keeps_the_shape(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_dropout_takes_what_is_not_contiguous():
    x = torch.arange(1.0, 13).view(3, 4).T.expand(2, 4, 3)
    y = Dropout(0.5)(x)
    assert torch.equal(y[y != 0], 2 * x[y != 0])


def test_dropout_leaves_alone_what_is_not_training_or_has_nothing_to_drop():
    x = torch.ones(3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_dropout_near_one_still_divides_by_something():
    assert Dropout(1 - 1e-9)(torch.ones(1000)).isfinite().all()


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_dropout_refuses_a_probability_out_of_its_domain(p):
    with pytest.raises(ValueError, match=r"Dropout: p must lie in \[0, 1\)"):
        Dropout(p)
