"""What retrieval costs: the table of neighbours once, then a look-up in every step, against a search in every step.

    python -m benchmarks.retrieval

writes `benchmarks/results/retrieval.json`. A fold of 5,000 utterances (audio 512, text 768, visual 1,024, normally
distributed), batches of 1,000, k = 3, audio and text available. Seconds on the processor with one thread, which others
on the machine change little, the shortest of three calls or of as many as fit into two seconds; of the table also those
on the wall with all threads. The rivals:

- published: the steps of HARDY-MER's code (arXiv 2508.06800) written anew: a search on the host in every batch, its
  results joined, cut, measured again and collected in Python loops. Faiss is not installed; exact search by
  scikit-learn takes the place of its flat index.
- eager: the same without loops, products and `topk` of torch in every batch.

Both must find what the table finds before their time counts. A step ends with the features of all k + 1 rows.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch import Tensor

import spcl_fast
from benchmarks import memory
from spcl_fast.hardy import NeighbourTable
from spcl_fast.merc.files import write_json

N, T, K = 5000, 1000, 3
SIZES = {"audio": 512, "text": 768, "visual": 1024}
AVAILABLE = ("audio", "text")


class Published:
    """The published way: an index of each modality, searched in every batch."""

    def __init__(self, features: dict[str, Tensor]) -> None:
        self.rows = {m: x.numpy() for m, x in features.items()}
        # Text is brought to length 1, so that its L2 orders as the cosine.
        self.rows["text"] = self.rows["text"] / np.linalg.norm(self.rows["text"], axis=1, keepdims=True)
        self.indices = {m: NearestNeighbors(algorithm="brute").fit(x) for m, x in self.rows.items()}

    def neighbours(self, rows: np.ndarray, hardness: np.ndarray) -> list[list[int]]:
        """The joined lists of each query, itself first, cut by hardness."""
        joined: list[list[int]] = [[] for _ in rows]
        for m in AVAILABLE:
            found = self.indices[m].kneighbors(self.rows[m][rows], K + 1, return_distance=False)
            for i, near in enumerate(found):
                joined[i].extend(near.tolist())
        cut = []
        for i, near in enumerate(joined):
            distinct = []
            seen = set()
            for j in near:
                if j not in seen:
                    seen.add(j)
                    distinct.append(j)
            cut.append(distinct[: min(K, int(hardness[i] * K + 1)) + 1])
        return cut

    def __call__(self, rows: np.ndarray, hardness: np.ndarray) -> dict[str, Tensor]:
        """The features `[T, K + 1, F]` of each modality."""
        collected: dict[str, list[np.ndarray]] = {m: [] for m in self.rows}
        for near in self.neighbours(rows, hardness):
            first = {m: x[near[0]] for m, x in self.rows.items()}
            kept: dict[int, float] = {}
            for j in near[1:]:
                mean = sum(float(np.linalg.norm(x[j] - first[m])) for m, x in self.rows.items()) / len(self.rows)
                if len(kept) < K + 1:
                    kept[j] = mean
                elif mean < kept[farthest := max(kept, key=lambda j: kept[j])]:
                    del kept[farthest]
                    kept[j] = mean
            for m, x in self.rows.items():
                own = [first[m]] * (K + 1 - len(kept))
                collected[m].append(np.array(own + [x[j] for j in kept]))
        return {m: torch.from_numpy(np.array(x)) for m, x in collected.items()}


def eager(features: dict[str, Tensor], rows: Tensor, hardness: Tensor) -> Tensor:
    """The rows by torch, `[T, K + 1]`, for `rerank="code"`."""
    lists = []
    for m in AVAILABLE:
        x = torch.nn.functional.normalize(features[m]) if m == "text" else features[m]
        distance = x.square().sum(1) - 2 * x[rows] @ x.T
        distance.scatter_(1, rows[:, None], torch.inf)
        lists.append(distance.topk(K, largest=False).indices)
    near = lists[0]  # K rows, so that the second is never reached
    count = (hardness * K + 1).long().clamp(max=K)
    place = torch.arange(K + 1) - (K + 1 - count)[:, None]
    return torch.where(place < 0, rows[:, None], near.gather(1, place.clamp(min=0)))


def shortest(call: Callable[[], Any], clock: Callable[[], float] = time.process_time, budget: float = 2.0) -> float:
    """The shortest of three calls, or of as many as fit into the budget, after a first one."""
    call()
    found: list[float] = []
    while len(found) < 3 or sum(found) < budget:
        start = clock()
        call()
        found.append(clock() - start)
    return min(found)


def builds(features: dict[str, Tensor]) -> dict[str, float]:
    """The table, and the search alone by scikit-learn, which leaves ties to chance."""

    def by_scikit_learn() -> None:
        for m, x in features.items():
            NearestNeighbors(algorithm="brute", metric="cosine" if m == "text" else "euclidean").fit(
                x.numpy()
            ).kneighbors(x.numpy(), K + 1)

    def table() -> NeighbourTable:
        return NeighbourTable.build(features, neighbours=K)

    table()
    used = memory.of_call(table)
    return {
        "table": shortest(table),
        "scikit-learn": shortest(by_scikit_learn),
        "features, megabytes": sum(x.nbytes for x in features.values()) / 2**20,
        "peak of the table, megabytes": used.peak / 2**20 if used else math.nan,
    }


def steps(features: dict[str, Tensor]) -> dict[str, float]:
    """Seconds of a step."""
    rows, hardness = torch.randperm(N)[:T], torch.rand(T)
    available = torch.tensor([m in AVAILABLE for m in features])
    mixed = torch.rand(len(features), T) < 0.6
    table = NeighbourTable.build(features, neighbours=K)
    code = NeighbourTable.build(features, neighbours=K, rerank="code")
    published = Published(features)

    def ours() -> dict[str, Tensor]:
        found = code.gather(rows, hardness, available)
        return {m: x[found] for m, x in features.items()}

    lists = published.neighbours(rows.numpy(), hardness.numpy())
    theirs = [near[:1] * (K + 1 - len(near)) + near for near in lists]
    expected = code.gather(rows, hardness, available)
    if theirs != expected.tolist() or not torch.equal(eager(features, rows, hardness), expected):
        raise AssertionError("a rival found other rows")
    for m, x in published(rows.numpy(), hardness.numpy()).items():
        torch.testing.assert_close(x, torch.from_numpy(published.rows[m])[expected])

    def by_torch() -> dict[str, Tensor]:
        found = eager(features, rows, hardness)
        return {m: x[found] for m, x in features.items()}

    calls: dict[str, Callable[[], Any]] = {
        "published": lambda: published(rows.numpy(), hardness.numpy()),
        "eager": by_torch,
        "ours": ours,
        "ours, rows alone": lambda: table.gather(rows, hardness, available),
        "ours, rows alone, mixed": lambda: table.gather(rows, hardness, mixed),
    }
    return {name: shortest(call) for name, call in calls.items()}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found: dict[str, Any] = {"script": "benchmarks/retrieval.py", "size": {"N": N, "T": T, "k": K} | SIZES}
    torch.manual_seed(0)
    features = {m: torch.randn(N, F) for m, F in SIZES.items()}
    torch.set_num_threads(1)
    with threadpool_limits(1):  # of NumPy and scikit-learn
        found["one thread"] = {"build": builds(features), "step": steps(features)}
    torch.set_num_threads(threads := os.cpu_count() or 1)
    table = shortest(lambda: NeighbourTable.build(features, neighbours=K), time.perf_counter)
    found["all threads"] = {"threads": threads, "table": table}
    print(found, flush=True)
    found["environment"] = {
        "spcl_fast": spcl_fast.__version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "load": os.getloadavg()[1],
    }
    write_json(Path(__file__).parent / "results" / "retrieval.json", found)


if __name__ == "__main__":
    main()
