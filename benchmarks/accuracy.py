"""Test scores on real corpora, with SPCL and without: every published figure of the README comes from here.

    python benchmarks/accuracy.py DATA_FOLDER [--cells iemocap-gru ...] [--seeds 5]

writes `benchmarks/results/accuracy_<cell>.json`, one file a cell. The folder holds `iemocap_6way.npz` and
`meld.npz`; nothing of them goes into the results but scores.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from dataclasses import asdict, replace
from pathlib import Path

import torch
from scipy.stats import ttest_rel

import spcl_fast
from spcl_fast.merc.files import write_json
from spcl_fast.merc.npz import read_npz
from spcl_fast.merc.seeds import run_seeds, summarize
from spcl_fast.merc.trainer import TrainConfig

MODALITIES = "text_lsa+text_glove,audio"
GRU = TrainConfig(encoder="gru", learning_rate=1e-3)
TRANSFORMER = replace(GRU, encoder="transformer", learning_rate=1e-4)
IEMOCAP = {"file": "iemocap_6way.npz", "epochs": 40, "threshold": 0.4, "growth": 1.2}
MELD = {"file": "meld.npz", "epochs": 25, "threshold": 0.2, "growth": 1.6}
CELLS = {
    "iemocap-gru": (IEMOCAP, GRU),
    "meld-gru": (MELD, GRU),
    "iemocap-transformer": (IEMOCAP, TRANSFORMER),
    "meld-transformer": (MELD, TRANSFORMER),
}


def run_cell(name: str, folder: Path, seeds: int) -> None:
    """Trains none and SPCL with every seed, prints a line each and writes the result file."""
    corpus, base = CELLS[name]
    dataset = read_npz(folder / corpus["file"], MODALITIES)
    base = replace(base, epochs=corpus["epochs"])
    configs = {
        "none": replace(base, curriculum="none"),
        "spcl": replace(base, curriculum="spcl", threshold=corpus["threshold"], growth=corpus["growth"]),
    }
    results = run_seeds(dataset, configs, range(seeds))
    f1 = {c: [r.test.weighted_f1 for r in runs] for c, runs in results.items()}
    summaries = {c: summarize(runs) for c, runs in results.items()}
    for c, s in summaries.items():
        runs = " ".join(f"{x:.3f}" for x in f1[c])
        print(f"{name} {c}: weighted F1 {s.weighted_f1:.3f} ± {s.weighted_f1_sd:.3f} ({runs})", flush=True)
    difference = [b - a for a, b in zip(f1["none"], f1["spcl"], strict=True)]
    p = float(ttest_rel(f1["spcl"], f1["none"]).pvalue)
    print(f"{name} spcl - none: {statistics.fmean(difference):+.3f}, paired t-test p = {p:.2f}", flush=True)
    write_json(
        Path(__file__).parent / "results" / f"accuracy_{name}.json",
        {
            "script": "benchmarks/accuracy.py",
            "versions": {
                "spcl_fast": spcl_fast.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "device": f"cpu, {platform.machine()}",
            "threads": torch.get_num_threads(),
            "corpus": {"name": dataset.name, "counts": dataset.counts(), "modalities": MODALITIES},
            "seeds": list(range(seeds)),
            "config": {c: asdict(config) for c, config in configs.items()},
            "test_weighted_f1": f1,
            "test_accuracy": {c: [r.test.accuracy for r in runs] for c, runs in results.items()},
            "dev_weighted_f1": {c: [r.dev.weighted_f1 for r in runs] for c, runs in results.items()},
            "best_epoch": {c: [r.best_epoch for r in runs] for c, runs in results.items()},
            "summary": {c: s._asdict() for c, s in summaries.items()},
            "paired_t_test_p": p,
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, default=os.environ.get("SPCL_FAST_DATA"), nargs="?")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("name the folder of the corpora, or set SPCL_FAST_DATA")
    torch.set_num_threads(arguments.threads)
    for cell in arguments.cells:
        run_cell(cell, arguments.folder, arguments.seeds)


if __name__ == "__main__":
    main()
