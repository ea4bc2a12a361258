"""How long a corpus takes on workers of which some are slow and some fail, by the size of a shard: a simulation.

Workers take the next shard of one queue when they are free. A shard that was begun by a worker that fails is lost as a
whole, since a shard is what is written at once, and goes to the end of the queue; the worker comes back. So large
shards lose much and end late, small ones pay for opening and syncing files.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cluster:
    """Workers, one a core, and what becomes of them.

    spread: standard deviation of the logarithm of a worker's speed.
    slow, slowness: share of the workers that take so many times as long.
    hours_to_failure: of one worker, in the mean; exponential, without memory.
    restart: seconds until a worker is back.
    """

    workers: int
    spread: float = 0.1
    slow: float = 0.02
    slowness: float = 3.0
    hours_to_failure: float = 100.0
    restart: float = 120.0


def simulate(utterances: int, per_shard: int, seconds: float, overhead: float, cluster: Cluster, seed: int) -> float:
    """Seconds until the last shard is done.

    Args:
        utterances: of the corpus.
        per_shard: of a shard; the last has what is left.
        seconds: of a worker of ordinary speed, for 10^6 utterances.
        overhead: seconds of a shard beside, whatever its size.
        cluster: who works.
        seed: of speeds and failures.
    """
    rng = np.random.default_rng(seed)
    pace = np.exp(rng.normal(0.0, cluster.spread, cluster.workers))
    pace[rng.random(cluster.workers) < cluster.slow] *= cluster.slowness
    whole, rest = divmod(utterances, per_shard)
    waiting = [rest] * (rest > 0) + [per_shard] * whole  # taken from the end
    free = [(0.0, worker) for worker in range(cluster.workers)]
    fails = rng.exponential(3600 * cluster.hours_to_failure, cluster.workers)
    back: list[tuple[float, int]] = []  # shards that were lost, by when that was noticed
    end = 0.0
    while waiting or back:
        now, worker = heapq.heappop(free)
        if not waiting and back[0][0] > now:  # nothing to do until somebody fails
            heapq.heappush(free, (back[0][0], worker))
            continue
        size = waiting.pop() if waiting else heapq.heappop(back)[1]
        done = now + overhead + pace[worker] * seconds * size / 1e6
        if fails[worker] >= done:
            heapq.heappush(free, (done, worker))
            end = max(end, done)
            continue
        lost = max(now, float(fails[worker]))
        heapq.heappush(back, (lost, size))
        heapq.heappush(free, (lost + cluster.restart, worker))
        fails[worker] = lost + cluster.restart + rng.exponential(3600 * cluster.hours_to_failure)
    return end


def ideal(utterances: int, seconds: float, cluster: Cluster) -> float:
    """Seconds of as many ordinary workers that share the work to the last utterance, and never fail."""
    return seconds * utterances / 1e6 / cluster.workers


def by_shard_size(
    utterances: int, sizes: list[int], seconds: float, overhead: float, cluster: Cluster, seeds: int
) -> list[dict[str, float]]:
    """The mean and the worst of some seeds, as multiples of the ideal."""
    rows = []
    for size in sizes:
        times = [simulate(utterances, size, seconds, overhead, cluster, seed) for seed in range(seeds)]
        over = np.array(times) / ideal(utterances, seconds, cluster)
        rows.append({"utterances": size, "mean": float(over.mean()), "worst": float(over.max())})
    return rows
