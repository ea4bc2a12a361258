"""What a GPU must have in common with the host and with the reference: selections, faults, refusals."""

from __future__ import annotations

import pytest
import torch

from spcl_fast import backends, ops


def on_the_host(problem):
    return [x.cpu() for x in problem]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_the_gpu_selects_what_the_host_selects(make_problem, every_backend, dtype, aggregate) -> None:
    problem = make_problem(lengths=tuple(range(1, 80)), dtype=dtype, scale=1.0)
    host = on_the_host(problem)
    threshold = round(float(ops.self_paced_step(*host, None, aggregate=aggregate).difficulty.nanmedian()), 3)
    here = ops.self_paced_step(*problem, threshold, aggregate=aggregate, backend=every_backend)
    there = ops.self_paced_step(*host, threshold, aggregate=aggregate)
    clear = (there.difficulty - threshold).abs() >= 1e-5
    assert clear.float().mean() > 0.99
    assert torch.equal(here.weight.cpu()[clear], there.weight[clear])
    assert 0.3 < there.weight.mean() < 0.7
    torch.testing.assert_close(here.difficulty.cpu(), there.difficulty, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("pace", [1e-9, 0.1, 1 / 3, 0.999, 1.0])
def test_the_gpu_takes_the_same_easiest(every_backend, monkeypatch, pace) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", every_backend)
    rho = (torch.rand(100_003) * 50).round() / 50  # many ties
    rho[::17] = float("nan")
    assert torch.equal(ops.select_easiest(rho, pace).cpu(), ops.select_easiest(rho.cpu(), pace))
    assert torch.equal(ops.difficulty_quantile(rho, pace).cpu(), ops.difficulty_quantile(rho.cpu(), pace))


def test_the_gpu_counts_the_same_transitions(every_backend, monkeypatch) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", every_backend)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randint(0, 30, (500,)).cumsum(0)])
    T = int(offsets[-1])
    labels, speakers = torch.randint(-1, 7, (T,)), torch.randint(-1, 4, (T,))
    for by in ("dialogue", "speaker"):
        for ignored in ("skip", "break"):
            got = ops.emotion_transitions(labels, speakers, offsets, 7, by=by, ignored=ignored)
            want = ops.emotion_transitions(labels.cpu(), speakers.cpu(), offsets.cpu(), 7, by=by, ignored=ignored)
            for name, value in want._asdict().items():
                torch.testing.assert_close(getattr(got, name).cpu(), value, rtol=1e-6, atol=1e-6, equal_nan=True)


BAD_OFFSETS = [
    [1, 8], [-1, 8], [0, 5, 3, 8], [0, 9, 8], [0, 7], [0, 9], [0], [3], [8, 0], [1, 5, -3, 99],
    [2**62, -(2**62), 4], [0, 4, 4, 4, 2, 8], [-5, -4, -3],
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_OFFSETS, ids=str)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_malformed_offsets_are_read_as_the_reference_reads_them(make_problem, kernels, monkeypatch, bad, dtype) -> None:
    if dtype == torch.int32 and max(map(abs, bad)) >= 2**31:
        pytest.skip("no such int32")
    logits, labels, _ = make_problem(lengths=(8,))
    offsets = torch.tensor(bad, dtype=dtype)
    speakers = labels % 2
    found = {}
    for name in (kernels, "reference"):
        monkeypatch.setenv("SPCL_FAST_BACKEND", name)
        step = ops.self_paced_step(logits, labels, offsets, 0.8)
        transitions = ops.emotion_transitions(labels, speakers, offsets, 6)
        found[name] = [
            *step[:6],
            *step.totals,
            ops.modality_spread(step.confidence, offsets),
            ops.window_coherence(logits, offsets),
            *transitions,
        ]
        assert step.totals.bad_offset > 0
        quiet = ops.self_paced_step(logits, labels, offsets, 0.8, validate="off")
        assert quiet.totals.bad_offset == 0
        with pytest.raises(ValueError, match="offsets must"):
            ops.self_paced_step(logits, labels, offsets, 0.8, validate="full")
    torch.testing.assert_close(found[kernels], found["reference"], rtol=1e-9, atol=1e-12, equal_nan=True)


def test_bad_labels_and_class_weights_are_left_out_as_by_the_reference(make_problem, kernels) -> None:
    logits, labels, offsets = make_problem()
    labels[[2, 3]] = torch.tensor([77, -5])
    logits[1, 9, 2], logits[0, 15, 0] = float("nan"), float("inf")
    weight = torch.rand(6)
    weight[labels[5]] = float("nan")
    steps = [
        ops.self_paced_step(logits, labels, offsets, 0.8, class_weight=weight, backend=name)
        for name in (kernels, "reference")
    ]
    for got, want in zip(steps[0][:6] + tuple(steps[0].totals), steps[1][:6] + tuple(steps[1].totals), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert steps[0].totals.nonfinite >= 3
    assert steps[0].totals.bad_label == 2


def elsewhere() -> list[torch.device]:
    here = torch.get_default_device()
    others = [torch.device("cpu")] if here.type != "cpu" else [torch.device("meta")]
    if torch.cuda.device_count() > 1:
        others.append(torch.device("cuda", 1))
    return others


def test_tensors_on_two_devices_are_refused(make_problem, every_backend, monkeypatch) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", every_backend)
    logits, labels, offsets = make_problem(dtype=torch.float32)
    for other in elsewhere():
        for far in ((logits, labels.to(other), offsets), (logits, labels, offsets.to(other))):
            with pytest.raises(ValueError, match=f"on one device .*{other}"):
                ops.self_paced_step(*far, 0.8)
        options = {
            "joint": logits[0],
            "extra_difficulty": torch.rand(24),
            "class_weight": torch.rand(6),
            "present": torch.ones(3, 24, dtype=torch.bool),
        }
        for name, value in options.items():
            with pytest.raises(ValueError, match=f"on one device .*{name} on {other}"):
                ops.self_paced_step(logits, labels, offsets, 0.8, **{name: value.to(other)})
        with pytest.raises(ValueError, match=f"on one device .*threshold on {other}"):
            ops.self_paced_step(logits, labels, offsets, torch.tensor(0.8).to(other))
        with pytest.raises(ValueError, match="on one device"):
            ops.self_paced_step([logits[0], logits[1].to(other)], labels, offsets, 0.8)
        with pytest.raises(ValueError, match="on one device"):
            ops.modality_scores(logits, labels.to(other))
        with pytest.raises(ValueError, match="on one device"):
            ops.window_coherence(logits, offsets.to(other))
        with pytest.raises(ValueError, match="on one device"):
            ops.modality_spread(logits[..., 0], offsets.to(other))
        with pytest.raises(ValueError, match="on one device"):
            ops.emotion_transitions(labels, labels.to(other), offsets, 6)
        with pytest.raises(ValueError, match="on one device"):
            ops.self_paced_weights(torch.rand(3), torch.tensor(0.5).to(other))


@pytest.mark.parametrize("num", [32, 33, 100])
def test_any_number_of_modalities(make_problem, kernels, num) -> None:
    logits, labels, offsets = make_problem(M=num, dtype=torch.float64)
    parts = [z.clone().requires_grad_() for z in logits]
    found = []
    for name in (kernels, "reference"):
        step = ops.self_paced_step(parts, labels, offsets, 0.8, backend=name)
        scores = ops.modality_scores(parts, labels, backend=name)
        coherence = ops.window_coherence(parts, offsets, backend=name)
        total = step.loss + scores.margin.sum() + coherence.nansum()
        found.append([step.difficulty, scores.loss, coherence, *torch.autograd.grad(total, parts)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-11, equal_nan=True)


def test_the_report_names_the_gpu() -> None:
    values = {(row.section, row.name): row.value for row in backends.report()}
    assert torch.cuda.get_device_name(0) in values["machine", "cuda:0"]
    assert values["build", "cuda architectures"] != "none"
    assert values["ops", "emotion_transitions on cuda"] == "cuda"
