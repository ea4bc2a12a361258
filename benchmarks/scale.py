"""What a corpus of any size costs: constants that are measured here, and what follows from them.

    python -m benchmarks.scale measure [FOLDER]   # a few minutes; FOLDER takes 400 MB for a while
    python -m benchmarks.scale simulate           # the simulation again, from the constants of the record
    python -m benchmarks.scale tables [--check]   # writes the tables of docs/scale.md from the record

The record is `benchmarks/results/scale.json`. One thread. Times are those of the processor (`time.process_time`), the
shortest of five, so that what else runs on the machine counts little; waiting for the disk is measured apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import spcl_fast
from spcl_fast import CurriculumSampler, DialogueBatch, arrays
from spcl_fast.corpus import CorpusWriter, Modality, SelectionIndex, global_thresholds, open_corpus, rescore, select
from spcl_fast.merc.files import write_json
from spcl_fast.merc.models import make_model

from .stragglers import Cluster, by_shard_size, ideal

ROOT = Path(__file__).resolve().parents[1]
RECORD = Path(__file__).parent / "results" / "scale.json"
DOC = ROOT / "docs" / "scale.md"

M, C, LENGTH = 3, 7, 10  # modalities, classes, utterances of a dialogue
FEATURES = {"text": 768, "audio": 512, "visual": 342}  # of the model, float16 on the disk
HIDDEN = 128
ROWS = 1 << 20  # utterances that are measured
PACE = 0.4
SIZES = [10**8, 10**10, 10**12]
MACHINES = [1, 16, 256]
#: what is assumed, and nowhere measured
ASSUMED = {"cores": 16, "disk_bytes_per_second": 2e9, "gpu_flops_per_second": 1e14}
SIMULATED: dict[str, Any] = {"utterances": 10**10, "workers": 256, "seeds": 10}
SHARDS = [1 << k for k in range(16, 29, 2)]


def processor_seconds(call: Callable[[], Any], times: int = 5) -> float:
    """The shortest of some calls after a first one."""
    call()
    found = []
    for _ in range(times):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def measured_store(folder: Path) -> dict[str, float]:
    """Rescoring from stored logits: in few shards, and in many, whose difference is what a shard costs."""
    rng = np.random.default_rng(0)
    lengths = np.full(ROWS // LENGTH, LENGTH)
    T = int(lengths.sum())
    logits = {name: rng.standard_normal((T, C)).astype(np.float16) for name in FEATURES}
    modalities = [Modality(name, num_classes=C, logits_dtype="float16") for name in FEATURES]
    labels, speakers = rng.integers(0, C, T), rng.integers(0, 2, T)
    times, found = {}, {}
    for shards, name in ((4, "few"), (128, "many")):
        with CorpusWriter(folder / name, modalities, utterances_per_shard=T // shards) as writer:
            writer.add(np.arange(len(lengths)), speakers, labels, logits, offsets=np.cumsum([0, *lengths]))
        corpus, number, waited = open_corpus(folder / name), iter(range(9)), []

        def once(corpus: Any = corpus, number: Any = number, waited: Any = waited) -> None:
            waited.append(rescore(corpus, folder / f"scores-{next(number)}-{len(corpus)}").sync_seconds)

        times[name] = processor_seconds(once, 3) / T
        found[name] = len(corpus), min(waited) / len(corpus)
    (few, _), (many, sync) = found["few"], found["many"]
    per_shard = max(0.0, (times["many"] - times["few"]) * T / (many - few))
    last = next(folder.glob(f"scores-0-{few}"))
    return {
        "seconds_per_utterance": times["few"] - per_shard * few / T,
        "corpus_bytes_per_utterance": _bytes(folder / "few") / T,
        "scores_bytes_per_utterance": _bytes(last) / T,
        "seconds_per_shard": per_shard,
        "sync_seconds_per_shard": sync,
        "exponentials_per_utterance": (M + 1) * C,
    }


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def measured_selection(folder: Path) -> dict[str, float]:
    """What a row costs: the three passes of a threshold, a selection, and drawing from it; times in seconds."""
    rows = 1 << 24
    rng = np.random.default_rng(1)
    column = rng.random(rows, dtype=np.float32)
    column[::50] = np.nan
    shards = np.array_split(column, 16)
    (found,) = global_thresholds(shards, [PACE])
    made = {form: select(shards, pace=PACE, out=folder / form, form=form) for form in ("rows", "bits")}
    assert np.array_equal(np.asarray(made["bits"]), np.flatnonzero(arrays.select_easiest(column, PACE)))
    at = float(found.value)
    drawn = 1 << 17

    def draw(form: str) -> Callable[[], None]:
        sampler = CurriculumSampler(rows, rows=made[form])
        order = sampler._make()._order  # a part of the epoch alone
        return lambda: [order[start : start + (1 << 16)] for start in range(0, drawn, 1 << 16)] and None

    return {
        "threshold": processor_seconds(lambda: global_thresholds(shards, [PACE])) / rows,
        "threshold_of_five": processor_seconds(lambda: global_thresholds(shards, [0.1, 0.2, 0.4, 0.6, 0.8])) / rows,
        "select": processor_seconds(lambda: select(shards, threshold=at, out=folder / "s", form="bits")) / rows,
        "open_and_verify": processor_seconds(lambda: SelectionIndex(folder / "bits")) / rows,
        "draw_from_rows": processor_seconds(draw("rows")) / drawn,
        "draw_from_bits": processor_seconds(draw("bits")) / drawn,
        "bytes_of_rows": (folder / "rows").stat().st_size / rows,
        "bytes_of_bits": (folder / "bits").stat().st_size / rows,
    }


def measured_model() -> dict[str, float]:
    """The forward pass of late fusion with GRUs, and its multiplications and additions."""
    T = 4000
    model = make_model("late_fusion", FEATURES, C, num_speakers=2, hidden=HIDDEN).eval()
    features = {name: torch.randn(T, size) for name, size in FEATURES.items()}
    batch = DialogueBatch.from_lists([[0] * LENGTH] * (T // LENGTH))
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model(features, batch)
        seconds = processor_seconds(lambda: model(features, batch), 3)
    return {
        "seconds_per_utterance": seconds / T,
        "flops_per_utterance": counter.get_total_flops() / T,
        "bytes_per_utterance": 2 * sum(FEATURES.values()),
    }


def measure(folder: Path | None) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        store = measured_store(Path(name))
        selection = measured_selection(Path(name))
    model = measured_model()
    processor = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in processor.splitlines() if line.startswith("model name")]
    record = {
        "script": "benchmarks/scale.py",
        "size": {"M": M, "C": C, "length": LENGTH, "rows": ROWS, "features": FEATURES, "hidden": HIDDEN, "pace": PACE},
        "measured": {"store": store, "selection": selection, "model": model},
        "assumed": ASSUMED,
        "environment": {
            "spcl_fast": spcl_fast.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "device": (names or [platform.processor()])[0],
            "loadavg": os.getloadavg(),
        },
    }
    write_json(RECORD, record | {"simulated": simulated(record)})
    print(json.dumps(record["measured"], indent=2))


def worker_seconds(record: dict[str, Any], what: str) -> float:
    """What an utterance takes one of the workers of a machine, who share its disks."""
    store, model, assumed = record["measured"]["store"], record["measured"]["model"], record["assumed"]
    seconds, traffic = store["seconds_per_utterance"], store["scores_bytes_per_utterance"]
    if what == "model":
        seconds, traffic = seconds + model["seconds_per_utterance"], traffic + model["bytes_per_utterance"]
    else:
        traffic += store["corpus_bytes_per_utterance"]
    return max(seconds, traffic * assumed["cores"] / assumed["disk_bytes_per_second"])


def simulated(record: dict[str, Any], sizes: list[int] = SHARDS) -> dict[str, Any]:
    """Time by the size of a shard; the same for the same constants."""
    store, cluster = record["measured"]["store"], Cluster(SIMULATED["workers"])
    overhead = store["seconds_per_shard"] + store["sync_seconds_per_shard"]
    found: dict[str, Any] = {"cluster": vars(cluster), **SIMULATED, "overhead": overhead}
    for what in ("stored", "model"):
        seconds = 1e6 * worker_seconds(record, what)
        rows = by_shard_size(SIMULATED["utterances"], sizes, seconds, overhead, cluster, SIMULATED["seeds"])
        found[what] = {"ideal_seconds": ideal(SIMULATED["utterances"], seconds, cluster), "rows": rows}
    return found


def constants(record: dict[str, Any]) -> str:
    """What was measured, for 10^6 utterances or rows."""
    store, selection, model = (record["measured"][name] for name in ("store", "selection", "model"))
    read = {"rescore": store["corpus_bytes_per_utterance"], "scores": store["scores_bytes_per_utterance"]}
    lines = [
        ("rescore from stored logits", store["seconds_per_utterance"], read["rescore"], read["scores"]),
        ("the model alone, forward", model["seconds_per_utterance"], model["bytes_per_utterance"], 0),
        ("threshold, three passes", selection["threshold"], 12, 0),
        ("five thresholds at once", selection["threshold_of_five"], 12, 0),
        ("select at a threshold, two passes", selection["select"], 8, selection["bytes_of_bits"]),
        ("open a selection, checksum compared", selection["open_and_verify"], selection["bytes_of_bits"], 0),
        ("draw from a selection, as bits", selection["draw_from_bits"], 0, 0),
        ("draw from a selection, as rows", selection["draw_from_rows"], 0, 0),
    ]
    table = ["| for 10^6 | processor, s | read, MB | written, MB |", "|---|---|---|---|"]
    table += [f"| {what} | {_short(1e6 * s)} | {_short(r)} | {_short(w)} |" for what, s, r, w in lines]
    exponentials, flops = store["exponentials_per_utterance"], model["flops_per_utterance"] / 1e6
    shard, synced = (1e3 * store[name] for name in ("seconds_per_shard", "sync_seconds_per_shard"))
    environment = record["environment"]
    return "\n".join(
        [
            *table,
            "",
            f"Arithmetic for an utterance: {exponentials} exponentials to rescore it, {flops:.1f} million"
            f" multiplications and additions in the model. A shard costs {_short(shard)} ms of the processor beside,"
            f" and {_short(synced)} ms until the disk has it."
            f" One thread of {environment['device']}, load {environment['loadavg'][0]:.1f} meanwhile.",
        ]
    )


def duration(record: dict[str, Any], utterances: int, machines: int, what: str) -> float:
    """Seconds of one round, rescoring, threshold and selection; each bound by the processors or by the disks.

    what: "stored", "model" on the processors, or "gpu" for the model on one GPU a machine.
    """
    store, selection, model = (record["measured"][name] for name in ("store", "selection", "model"))
    assumed = record["assumed"]

    def bound(seconds: float, traffic: float, flops: float = 0.0, cores: int = assumed["cores"]) -> float:
        rates = traffic / assumed["disk_bytes_per_second"], flops / assumed["gpu_flops_per_second"]
        return utterances * max(seconds / cores, *rates)

    seconds, written = store["seconds_per_utterance"], store["scores_bytes_per_utterance"]
    rescored = {
        "stored": bound(seconds, store["corpus_bytes_per_utterance"] + written),
        "model": bound(seconds + model["seconds_per_utterance"], model["bytes_per_utterance"] + written),
        "gpu": bound(seconds, model["bytes_per_utterance"] + written, model["flops_per_utterance"]),
    }
    selected = bound(selection["select"], 8 + selection["bytes_of_bits"], cores=1)
    return (rescored[what] + bound(selection["threshold"], 12)) / machines + selected


def plans(record: dict[str, Any]) -> str:
    """One row a size: what lies on disks, and how long a round takes."""
    store, selection = record["measured"]["store"], record["measured"]["selection"]
    machines = ", ".join(map(str, MACHINES))
    table = [
        f"| utterances | corpus | scores | selection | stored logits on {machines} machines | with the model,"
        f" {machines} | the model on a GPU each (not run) |",
        "|---|---|---|---|---|---|---|",
    ]
    for utterances in SIZES:
        sizes = store["corpus_bytes_per_utterance"], store["scores_bytes_per_utterance"], selection["bytes_of_bits"]
        cells = [_power(utterances), *(_capacity(utterances * size) for size in sizes)]
        for what in ("stored", "model", "gpu"):
            cells.append(", ".join(_time(duration(record, utterances, m, what)) for m in MACHINES))
        table.append(f"| {' | '.join(cells)} |")
    assumed = record["assumed"]
    return "\n".join(
        [
            *table,
            "",
            f"Assumed, not measured: {assumed['cores']} cores a machine as fast as the one above, disks of"
            f" {assumed['disk_bytes_per_second'] / 1e9:g} GB/s a machine, a GPU that keeps up"
            f" {assumed['gpu_flops_per_second'] / 1e12:g} TFLOP/s in this model. The selection is written by one core.",
        ]
    )


def shards(record: dict[str, Any]) -> str:
    """The simulation: over the ideal, by the size of a shard."""
    of = record["simulated"]
    table = [
        "| utterances a shard | shards | stored logits, mean (worst) | with the model, mean (worst) |",
        "|---|---|---|---|",
    ]
    for stored, model in zip(of["stored"]["rows"], of["model"]["rows"], strict=True):
        size = int(stored["utterances"])
        cells = [f"2^{size.bit_length() - 1}", f"{-(-of['utterances'] // size):,}"]
        cells += [f"{row['mean']:.2f} ({row['worst']:.2f})" for row in (stored, model)]
        table.append(f"| {' | '.join(cells)} |")
    cluster = of["cluster"]
    stored, model = (of[what]["ideal_seconds"] for what in ("stored", "model"))
    return "\n".join(
        [
            *table,
            "",
            f"Time over the ideal of {_time(stored)} and {_time(model)}: {_power(of['utterances'])} utterances,"
            f" {of['workers']} workers, {of['seeds']} seeds. Speeds vary by {100 * cluster['spread']:g} %,"
            f" {100 * cluster['slow']:g} % of the workers take {cluster['slowness']:g} times as long, each fails once"
            f" in {cluster['hours_to_failure']:g} hours and is back after {cluster['restart']:g} s; a shard costs"
            f" {_short(1e3 * of['overhead'])} ms beside.",
        ]
    )


def _short(x: float) -> str:
    return f"{x:.3g}" if x < 1000 else f"{x:,.0f}"


def _power(n: int) -> str:
    return f"10^{len(str(n)) - 1}"


def _capacity(size: float) -> str:
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e6:.3g} MB"


def _time(seconds: float) -> str:
    for unit, factor in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


TABLES = {"constants": constants, "plans": plans, "shards": shards}


def filled(text: str, record: dict[str, Any]) -> str:
    """The text with every table between its marks written anew."""
    for name, table in TABLES.items():
        marks = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
        text, found = marks.subn(lambda m, table=table: f"{m[1]}{table(record)}\n{m[2]}", text)
        if found != 1:
            raise ValueError(f"{DOC.name}: must have the marks of the table {name!r} once (got {found})")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "simulate", "tables"])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--check", action="store_true", help="fail where docs/scale.md is out of date")
    options = parser.parse_args()
    if options.what == "measure":
        return measure(options.folder)
    record = json.loads(RECORD.read_text())
    if options.what == "simulate":
        return write_json(RECORD, record | {"simulated": simulated(record)})
    old = DOC.read_text()
    new = filled(old, record)
    if options.check:
        sys.exit("docs/scale.md: out of date; run python -m benchmarks.scale tables" if new != old else 0)
    DOC.write_text(new)
    return None


if __name__ == "__main__":
    main()
