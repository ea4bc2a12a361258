"""What rescoring a corpus costs, held against the file system below it and against pandas and PyTorch.

    python -m benchmarks.corpus [--utterances 1e7] [--folder /dev/shm] [--record]
    python -m benchmarks.corpus --tables [--check]   # the table of docs/corpus.md from the record

writes a seeded corpus of three modalities and seven classes in float16 (50 bytes an utterance with its label and
speaker), rescores it to all twelve columns in float32 (48 bytes), and takes everything away again, a hundred bytes an
utterance in all; `--record` keeps the figures in `benchmarks/results/corpus.json` and in `docs/corpus.md`. Files lie in
the page cache or in tmpfs: bandwidth is of as many bytes read into one buffer, and written from one into a new file.
Waiting for the disk (fsync) is timed apart. The rivals do the same for two million utterances, and have to agree first.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import spcl_fast
from spcl_fast.corpus import Corpus, CorpusWriter, Modality, Shard, open_corpus, rescore
from spcl_fast.corpus._slices import slices
from spcl_fast.merc.files import write_json

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks" / "results" / "corpus.json"
DOC = ROOT / "docs" / "corpus.md"
NAMES, C, WINDOW = ("text", "audio", "visual"), 7, 5
BLOCK = 1 << 18
RIVALS_UTTERANCES = 2_000_000
Columns = dict[str, NDArray[np.float32]]


def write_corpus(folder: Path, utterances: int, seed: int = 0, **how: Any) -> Corpus:
    """Dialogues of 1 to 39 utterances and three speakers; logits are one block of random ones, again and again."""
    rng = np.random.default_rng(seed)
    blocks = [(2 * rng.standard_normal((BLOCK + 64, C))).astype(np.float16) for _ in NAMES]
    modalities = [Modality(name, num_classes=C, logits_dtype="float16") for name in NAMES]
    dialogues = 0
    with CorpusWriter(folder, modalities, **how) as writer:
        for first in range(0, utterances, BLOCK):
            T = min(BLOCK, utterances - first)
            ends = rng.integers(1, 40, T // 10 + 1).cumsum()
            offsets = np.concatenate([[0], ends[ends < T], [T]])
            start = int(rng.integers(64))
            logits = {name: block[start : start + T] for name, block in zip(NAMES, blocks, strict=True)}
            ids = np.arange(dialogues, dialogues + len(offsets) - 1)
            writer.add(ids, rng.integers(0, 3, T), rng.integers(0, C, T), logits, offsets=offsets)
            dialogues += len(ids)
    return open_corpus(folder)


def bandwidth(folder: Path, size: int = 1 << 30) -> dict[str, float]:
    """Bytes a second through the file system: a new file written, then read into one buffer; the best of three."""
    path, piece = folder / "bandwidth", bytearray(os.urandom(1 << 22))
    best = {"write": 0.0, "read": 0.0}
    for _ in range(3):
        path.unlink(missing_ok=True)
        with path.open("wb", buffering=0) as file:
            start = time.perf_counter()
            for _ in range(size // len(piece)):
                file.write(piece)
            best["write"] = max(best["write"], size / (time.perf_counter() - start))
        with path.open("rb", buffering=0) as file:
            start = time.perf_counter()
            while file.readinto(piece):
                pass
            best["read"] = max(best["read"], size / (time.perf_counter() - start))
    path.unlink()
    return best


def ours(corpus: Corpus, out: Path, **how: Any) -> dict[str, float]:
    """One run into a new folder."""
    shutil.rmtree(out, ignore_errors=True)
    start, cpu = time.perf_counter(), time.process_time()
    done = rescore(corpus, out, **how)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "sync_seconds": done.sync_seconds,
    }


def processes(corpus: Corpus, out: Path, count: int) -> dict[str, float]:
    """So many processes of one thread in one folder, as torchrun would start them; the slowest, imports left out."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "spcl_fast", "rescore", str(corpus.folder), "--out", str(out), "--json"]
    children = [
        subprocess.Popen(
            [*command, "--workers", "1", "--rank", str(rank), "--world-size", str(count)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for rank in range(count)
    ]
    facts = [json.loads(child.communicate()[0]) for child in children]
    assert any(fact["finished"] for fact in facts)
    return {"seconds": max(fact["seconds"] for fact in facts), "sync_seconds": sum(f["sync_seconds"] for f in facts)}


def by_pandas(shard: Shard, counts: NDArray[np.int64]) -> Columns:
    """A shard as a table, by NumPy and groups of pandas."""
    import pandas as pd

    lengths = np.diff(shard.offsets)
    table = pd.DataFrame({"dialogue": np.repeat(np.arange(len(lengths)), lengths), "label": shard.label})
    table["speaker"] = shard.speaker
    rows, columns = np.arange(len(table)), {}
    soft = []
    joint: Any = 0
    for name in NAMES:
        z = shard.logits[name].astype(np.float32)
        joint = joint + z
        z = z - z.max(1, keepdims=True)
        e = np.exp(z)
        total = e.sum(1)
        soft.append(e / total[:, None])
        columns[f"loss.{name}"] = np.log(total) - z[rows, shard.label]
        columns[f"confidence.{name}"] = soft[-1][rows, shard.label]
    confidence = pd.DataFrame({name: columns[f"confidence.{name}"].astype(np.float64) for name in NAMES})
    spread = confidence.groupby(table["dialogue"]).sum().std(axis=1, ddof=1).to_numpy()
    columns["spread"] = np.repeat(spread, lengths)
    cosines = [
        (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
        for a, b in ((soft[0], soft[1]), (soft[0], soft[2]), (soft[1], soft[2]))
    ]
    table["agreement"] = sum(cosines[1:], cosines[0]) / 3
    windows = table.groupby("dialogue")["agreement"].rolling(WINDOW, center=True, min_periods=1).mean()
    columns["coherence"] = windows.to_numpy()
    before = table.groupby(["dialogue", "speaker"])["label"].shift()
    shifts = ((before != table["label"]) & before.notna()).groupby(table["dialogue"]).sum().to_numpy()
    speakers = table.groupby("dialogue")["speaker"].nunique().to_numpy()
    columns["transition"] = np.repeat((shifts + speakers) / (lengths + speakers), lengths)
    previous = table.groupby("dialogue")["label"].shift()
    pair = previous.fillna(0).astype(int).to_numpy()
    surprisal = -np.log((counts[pair, shard.label] + 1) / (counts.sum(1)[pair] + C))
    columns["surprisal"] = np.where(previous.notna(), surprisal, 0)
    joint = joint - joint.max(1, keepdims=True)
    columns["utterance_loss"] = loss = np.log(np.exp(joint).sum(1)) - joint[rows, shard.label]
    columns["difficulty"] = 2 * columns["spread"] * loss / (columns["spread"] + loss)
    return {name: column.astype(np.float32) for name, column in columns.items()}


def counts_by_pandas(corpus: Corpus) -> NDArray[np.int64]:
    """Transitions of the corpus."""
    total = np.zeros((C, C), np.int64)
    for shard in corpus:
        inside = np.ones(shard.info.utterances, bool)
        inside[shard.offsets[:-1]] = False
        pair = shard.label[:-1] * C + shard.label[1:]
        total += np.bincount(pair[inside[1:]], minlength=C * C).reshape(C, C)
    return total


class Slices(torch.utils.data.Dataset[Any]):
    """Slices of whole dialogues of a corpus as tensors, for a DataLoader."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.parts = [(i, *part) for i, shard in enumerate(corpus) for part in slices(shard.offsets, 1 << 15)]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Any:
        i, first, last = self.parts[index]
        shard = self.corpus.shard(i, verify=False)
        begin, end = int(shard.offsets[first]), int(shard.offsets[last])
        logits = torch.from_numpy(np.stack([shard.logits[name][begin:end] for name in NAMES]))
        label, speaker = (torch.from_numpy(x[begin:end].astype(np.int64)) for x in (shard.label, shard.speaker))
        return logits, label, speaker, torch.from_numpy(shard.offsets[first : last + 1] - begin)


@torch.inference_mode()
def by_torch(
    z: torch.Tensor, y: torch.Tensor, who: torch.Tensor, offsets: torch.Tensor, counts: torch.Tensor
) -> Columns:
    """A slice by eager PyTorch."""
    logits = z.float()
    lengths = offsets.diff()
    D, T = len(lengths), len(y)
    dialogue = torch.repeat_interleave(torch.arange(D), lengths)
    log_p = logits.log_softmax(-1)
    loss = -log_p.gather(2, y.expand(3, T)[..., None])[..., 0]
    p = log_p.exp()
    confidence = (-loss).exp()
    sums = torch.zeros(D, 3, dtype=torch.float64).index_add_(0, dialogue, confidence.T.double())
    spread = sums.std(1)[dialogue].float()
    normal = torch.nn.functional.normalize(p, dim=-1)
    agreement = ((normal[0] * normal[1]) + (normal[0] * normal[2]) + (normal[1] * normal[2])).sum(-1) / 3
    running = torch.nn.functional.pad(agreement.double().cumsum(0), (1, 0))
    rows = torch.arange(T)
    low = torch.maximum(rows - WINDOW // 2, offsets[:-1][dialogue])
    high = torch.minimum(rows + WINDOW // 2 + 1, offsets[1:][dialogue])
    coherence = (running[high] - running[low]) / (high - low)
    key, order = (dialogue * 3 + who).sort(stable=True)
    same = (key[1:] == key[:-1]) & (y[order][1:] != y[order][:-1])
    shifts = torch.zeros(D, dtype=torch.int64).index_add_(0, dialogue[order][1:], same.long())
    first = torch.ones(T, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    speakers = torch.zeros(D, dtype=torch.int64).index_add_(0, dialogue[order], first.long())
    surprisal = torch.zeros(T)
    surprisal[1:] = -((counts[y[:-1], y[1:]] + 1) / (counts.sum(1)[y[:-1]] + C)).log().float()
    surprisal[offsets[:-1]] = 0
    joint = torch.nn.functional.cross_entropy(logits.sum(0), y, reduction="none")
    columns = {f"loss.{name}": loss[m] for m, name in enumerate(NAMES)}
    columns |= {f"confidence.{name}": confidence[m] for m, name in enumerate(NAMES)}
    columns |= {"spread": spread, "coherence": coherence, "surprisal": surprisal, "utterance_loss": joint}
    columns["transition"] = ((shifts + speakers) / (lengths + speakers))[dialogue]
    columns["difficulty"] = 2 * spread * joint / (spread + joint)
    return {name: column.float().numpy() for name, column in columns.items()}


def of_pandas(corpus: Corpus) -> Iterator[Columns]:
    """Shard by shard."""
    counts = counts_by_pandas(corpus)
    return (by_pandas(shard, counts) for shard in corpus)


def of_torch(corpus: Corpus) -> Iterator[Columns]:
    """Slice by slice, one worker reading ahead."""
    counts = torch.from_numpy(counts_by_pandas(corpus))
    loader = torch.utils.data.DataLoader(Slices(corpus), batch_size=None, num_workers=1)
    return (by_torch(*part, counts) for part in loader)


def rival(corpus: Corpus, out: Path, columns_of: Callable[[Corpus], Iterator[Columns]]) -> dict[str, float]:
    """Columns of every part into files, one a column."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = time.perf_counter()
    for columns in columns_of(corpus):
        for name, values in columns.items():
            with (out / name).open("ab") as file:
                values.tofile(file)
    return {"seconds": time.perf_counter() - start}


def require_agreement(corpus: Corpus, scores: Path, out: Path) -> None:
    """AssertionError unless a rival's columns are ours but for rounding."""
    found = spcl_fast.corpus.Scores(scores)
    for name in found.columns:
        mine = np.concatenate([found.column(name, i) for i in range(len(found))])
        np.testing.assert_allclose(np.fromfile(out / name, np.float32), mine, rtol=2e-4, atol=2e-5, err_msg=name)


def measure(folder: Path, utterances: int) -> dict[str, Any]:
    """All figures, in a folder that is empty."""
    needed, free = 110 * utterances + (1 << 31), shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(f"{folder}: must have room for {needed / 1e9:.0f} GB (got {free / 1e9:.0f} GB)")
    corpus, out = write_corpus(folder / "corpus", utterances), folder / "scores"
    T = corpus.num_utterances
    through = bandwidth(folder)
    read, written = T * (2 * C * len(NAMES) + 8), T * 48
    floor = read / through["read"] + written / through["write"]
    found: dict[str, Any] = {"utterances": T, "bandwidth": through, "bytes": {"read": read, "written": written}}
    found["floor_seconds"] = floor
    runs = {
        "1 worker": lambda: ours(corpus, out),
        "1 worker, not verified": lambda: ours(corpus, out, verify=False),
        "2 workers": lambda: ours(corpus, out, workers=2),
        "2 workers, not verified": lambda: ours(corpus, out, workers=2, verify=False),
        "1 process": lambda: processes(corpus, out, 1),
        "2 processes": lambda: processes(corpus, out, 2),
    }
    found["runs"] = {}
    for name, run in runs.items():
        found["runs"][name] = best = min((run() for _ in range(2)), key=lambda facts: facts["seconds"])
        at_work = working_seconds(name, best)
        print(
            f"{name}: {best['seconds']:.2f} s, at work {at_work / floor:.2f} x the floor of {floor:.2f} s", flush=True
        )
    shutil.rmtree(out)
    shutil.rmtree(corpus.folder)
    found["rivals"] = rivals(folder, min(utterances, RIVALS_UTTERANCES))
    return found


def rivals(folder: Path, utterances: int) -> dict[str, Any]:
    """Ours with two workers and the rivals on two threads, on a corpus of their size."""
    corpus, out = write_corpus(folder / "corpus", utterances), folder / "scores"
    found: dict[str, Any] = {
        "utterances": utterances,
        "ours": min(ours(corpus, out, workers=2)["seconds"] for _ in range(3)),
    }
    for name, columns_of in {"NumPy and pandas": of_pandas, "PyTorch and DataLoader": of_torch}.items():
        found[name] = rival(corpus, folder / "rival", columns_of)["seconds"]
        require_agreement(corpus, out, folder / "rival")
        print(
            f"{name}: {found[name]:.2f} s, ours {found['ours']:.3f} s: {found[name] / found['ours']:.0f} x", flush=True
        )
    return found


def working_seconds(name: str, run: dict[str, float]) -> float:
    """Of a run, what it did not spend in waiting for the disk, which its threads or processes do side by side."""
    return run["seconds"] - run["sync_seconds"] / int(name.split()[0])


def table(record: dict[str, Any]) -> str:
    """The runs of a record, and what they are held against."""
    T, runs, floor = record["utterances"], record["runs"], record["floor_seconds"]
    gigabytes = {way: f"{bandwidth / 1e9:.1f}" for way, bandwidth in record["bandwidth"].items()}
    lines = [
        "| run | s | of these waiting for the disk | the rest, x floor | utterances a second |",
        "|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        at_work = working_seconds(name, run)
        cells = [name, _seconds(run["seconds"]), _seconds(run["seconds"] - at_work), f"{at_work / floor:.2f}"]
        lines.append(f"| {' | '.join([*cells, _millions(T / run['seconds'])])} |")
    rivals = record["rivals"]
    for name in (name for name in rivals if name not in ("utterances", "ours")):
        cells = [f"{name}, of {_millions(rivals['utterances'])}", _seconds(rivals[name]), "", ""]
        lines.append(f"| {' | '.join([*cells, _millions(rivals['utterances'] / rivals[name])])} |")
    speed = runs["1 process"]["seconds"] / runs["2 processes"]["seconds"]
    against = ", ".join(
        f"{rivals[name] / rivals['ours']:.0f} x {name}" for name in rivals if name not in ("utterances", "ours")
    )
    lines += [
        "",
        f"{_millions(T)} utterances. The floor is {_seconds(floor)} s: as many bytes read at {gigabytes['read']} GB/s "
        f"and written at {gigabytes['write']} GB/s by one thread. Two processes are {speed:.2f} x as fast as one; two "
        f"workers are {against}. {record['cores']} cores, load {record['loadavg'][0]:.1f} before.",
    ]
    return "\n".join(lines)


def _seconds(x: float) -> str:
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def _millions(x: float) -> str:
    return f"{x / 1e6:.3g} million"


def filled(text: str, record: dict[str, Any]) -> str:
    """The text with the table between its marks written anew."""
    marks = re.compile(r"(<!-- rescoring: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
    text, found = marks.subn(lambda m: f"{m[1]}{table(record)}\n{m[2]}", text)
    if found != 1:
        raise ValueError(f"{DOC.name}: must have the marks of the table 'rescoring' once (got {found})")
    return text


def write_table(check: bool = False) -> None:
    """Writes the document, or fails when it is out of date."""
    old = DOC.read_text()
    new = filled(old, json.loads(RECORD.read_text()))
    if check:
        sys.exit("docs/corpus.md: out of date; run python -m benchmarks.corpus --tables" if new != old else 0)
    DOC.write_text(new)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=float, default=1e7)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where a folder for the files is made")
    parser.add_argument("--record", action="store_true", help="keep the figures")
    parser.add_argument("--tables", action="store_true", help="measure nothing; write docs/corpus.md from the record")
    parser.add_argument("--check", action="store_true", help="with --tables: fail where it is out of date")
    options = parser.parse_args()
    if options.tables:
        return write_table(options.check)
    if importlib.util.find_spec("pandas") is None:
        parser.error("pandas, a rival, must be installed")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    before = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="spcl_fast-corpus-", dir=options.folder))
    try:
        found = measure(folder, int(options.utterances))
    finally:
        shutil.rmtree(folder)
    if options.record:
        found |= {"loadavg": before, "cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        found["versions"] = {"spcl_fast": spcl_fast.__version__, "numpy": np.__version__, "torch": torch.__version__}
        write_json(RECORD, found)
        write_table()
    return None


if __name__ == "__main__":
    main()
