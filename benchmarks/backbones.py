"""What the backbones cost, and what they cost as the loops that they are held against.

    python -m benchmarks.backbones FOLDER

writes `benchmarks/results/backbones.json`; FOLDER holds `iemocap_6way.npz` and `meld.npz`. One thread. An epoch is the
shortest of three after a first, with the settings of `docs/study/study.yaml`, and the share of the curriculum that of
the same epoch. Loops are those of the tests, which the tests show to give the same numbers: forward, float64, hidden
128, the first 16 training dialogues. Parts are forward and backward, the median of as many calls as fit into two
seconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import spcl_fast
from spcl_fast import DialogueBatch
from spcl_fast.merc.files import write_json
from spcl_fast.merc.models import make_model
from spcl_fast.merc.models.dropout import Dropout
from spcl_fast.merc.models.packed_gru import bidirectional_grus, time_order
from spcl_fast.merc.npz import read_npz
from spcl_fast.merc.study_file import read_study
from spcl_fast.merc.trainer import TrainConfig, Trainer

ROOT = Path(__file__).resolve().parents[1]
DATA = {"IEMOCAP": "iemocap_6way.npz", "MELD": "meld.npz"}
MODALITIES = "text_lsa+text_glove,audio"
DIALOGUES, HIDDEN = 16, 128


def tests_of(name: str) -> ModuleType:
    """A module of the tests, for the loops that stand there."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "merc" / f"test_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seconds(call: Callable[[], Any], budget: float = 2.0) -> float:
    """The median time of a call, after a first one; of one call where that takes the whole budget."""
    times: list[float] = []
    if budget:
        call()
    while not times or sum(times) < budget:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def epochs(data: Any, name: str) -> dict[str, Any]:
    """Seconds an epoch and the share of the curriculum."""
    found = {}
    for backbone, options in read_study(ROOT / "docs" / "study" / "study.yaml").backbones.items():
        own = {k: x for k, x in options.items() if k != "per_data"} | options.get("per_data", {}).get(name, {})
        runs = [("spcl", "gru")]
        if backbone == "late_fusion":
            runs += [("none", "gru"), ("stochastic", "gru"), ("random_utterances", "gru"), ("spcl", "transformer")]
        for curriculum, encoder in runs:
            config = TrainConfig(**(own | {"epochs": 4, "curriculum": curriculum, "encoder": encoder}))
            history = Trainer(data, config).fit(score_test=False).history[1:]
            best = min(history, key=lambda entry: entry["seconds"])
            of = f"{backbone}, {curriculum}" + ("" if encoder == "gru" else f", {encoder}")
            found[of] = {"seconds": best["seconds"], "share": best["curriculum_seconds"] / best["seconds"]}
            print(f"{name}, {of}: {best['seconds']:.3f} s, {100 * found[of]['share']:.2f} %", flush=True)
    return found


def loops(data: Any, name: str) -> dict[str, Any]:
    """Forward passes of the backbones and of their loops, in seconds."""
    rows, offsets = data.rows_of(data.dialogues("train")[:DIALOGUES])
    batch = DialogueBatch.from_arrays(data.labels[rows], offsets, speakers=data.speakers[rows])
    features = {m: torch.from_numpy(x[rows].astype(np.float64)) for m, x in data.features.items()}
    sizes = {m: x.shape[1] for m, x in features.items()}
    lengths = np.diff(offsets).tolist()
    graph, window, rnn = (tests_of(x) for x in ("graph_backbones", "dialogue_gcn", "biddin"))
    by_loop: dict[str, Callable[[nn.Module], Any]] = {
        "mmgcn": lambda model: graph.loop_forward(model, features, lengths),
        "mm_dfn": lambda model: graph.loop_forward(model, features, lengths),
        "dialogue_gcn": lambda model: window.logits_of(model, features, batch),
        "biddin": lambda model: rnn.loop(model, features, batch),
    }
    found = {}
    for backbone, loop in by_loop.items():
        speakers = min(int(data.speakers.max()) + 1, 8)
        model = make_model(backbone, sizes, data.num_classes, num_speakers=speakers, hidden=HIDDEN).double().eval()
        with torch.no_grad():
            ours, theirs = (
                seconds(lambda model=model: model(features, batch)),
                seconds(lambda model=model, loop=loop: loop(model), 0.0),
            )
        found[backbone] = {"ours": ours, "loops": theirs}
        print(f"{name}, {backbone}: ours {1e3 * ours:.1f} ms, loops {1e3 * theirs:.0f} ms", flush=True)
    return found


def parts(data: Any, name: str) -> dict[str, Any]:
    """Forward and backward of what was written again, against torch's, in seconds."""
    rows, offsets = data.rows_of(data.dialogues("train")[:DIALOGUES])
    lengths = torch.from_numpy(np.diff(offsets))
    x = torch.randn(2, len(rows), HIDDEN, requires_grad=True)
    grus = [nn.GRU(HIDDEN, HIDDEN, batch_first=True, bidirectional=True) for _ in x]

    def ours() -> None:
        bidirectional_grus(grus, x, time_order(lengths)).sum().backward()

    def torchs() -> None:
        for gru, features in zip(grus, x, strict=True):
            packed = nn.utils.rnn.pack_sequence(list(features.split(lengths.tolist())), enforce_sorted=False)
            gru(packed)[0].data.sum().backward()

    def dropped(layer: nn.Module) -> Callable[[], None]:
        return lambda: layer(x).sum().backward()

    found = {
        "GRUs of two modalities": {"ours": seconds(ours), "torch": seconds(torchs)},
        "dropout": {"ours": seconds(dropped(Dropout(0.5))), "torch": seconds(dropped(nn.Dropout(0.5)))},
        "RGCN of one modality": relational(data, rows, offsets),
    }
    for of, times in found.items():
        print(f"{name}, {of}: " + ", ".join(f"{who} {1e3 * t:.2f} ms" for who, t in times.items()), flush=True)
    return found


def relational(data: Any, rows: np.ndarray, offsets: np.ndarray) -> dict[str, float]:
    """The relational layer of DialogueGCN and that of torch_geometric on the same graph."""
    from torch_geometric.nn import RGCNConv

    from spcl_fast.merc.models.dialogue_gcn import RelationalConv
    from spcl_fast.merc.models.window_graph import WindowGraph

    batch = DialogueBatch.from_arrays(data.labels[rows], offsets, speakers=data.speakers[rows])
    speakers = min(int(data.speakers.max()) + 1, 8)
    graph, edges = WindowGraph(batch, 5, speakers), tests_of("dialogue_gcn").edges_of(batch, 5, speakers)
    index, kinds = torch.tensor([(j, i) for j, i, _ in edges]).T, torch.tensor([r for *_, r in edges])
    x: Tensor = torch.randn(1, len(rows), 2 * HIDDEN, requires_grad=True)
    ours = RelationalConv(1, 2 * HIDDEN, HIDDEN, 2 * speakers**2, 30)
    theirs = RGCNConv(2 * HIDDEN, HIDDEN, 2 * speakers**2, num_bases=30)
    return {
        "ours": seconds(lambda: ours(graph.pad(x), graph).sum().backward()),
        "torch_geometric": seconds(lambda: theirs(x[0], index, kinds).sum().backward()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: dict[str, Any] = {"script": "benchmarks/backbones.py", "threads": 1, "data": {}}
    for name, file in DATA.items():
        data = read_npz(folder / file, MODALITIES)
        found["data"][name] = {"epochs": epochs(data, name), "loops": loops(data, name), "parts": parts(data, name)}
    found["environment"] = {
        "spcl_fast": spcl_fast.__version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    write_json(Path(__file__).parent / "results" / "backbones.json", found)


if __name__ == "__main__":
    main()
