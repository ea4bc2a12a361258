"""The lower bounds that the search for neighbours rests on."""

from __future__ import annotations

import torch

from spcl_fast.hardy import _nearest


def test_bounds_lie_below_what_is_measured_and_close():
    drawn = torch.randn(80, 40, generator=torch.Generator("cpu").manual_seed(5), device="cpu")
    points = drawn.to(torch.get_default_device()).double() + 300
    points[3] *= 1e-5
    points = _nearest._scaled(points)
    rows = torch.arange(80)
    measured = _nearest.squared_distances(points, rows, rows.expand(80, 80))
    bounds = _nearest._Screen(points).bounds(rows).double()
    off = ~torch.eye(80).bool()
    assert (bounds <= measured)[off].all()
    norms = (points - points.mean(0)).square().sum(1)
    assert ((measured - bounds)[off] <= (1e-4 * (norms[:, None] + norms))[off]).all()
