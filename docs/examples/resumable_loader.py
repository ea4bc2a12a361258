"""An epoch that is interrupted and goes on in another process, with workers: torchdata's StatefulDataLoader.

`pip install 'spcl_fast[adapters]'`, then run this file. The samplers have what the loader asks for; no adapter is
needed.
"""

from __future__ import annotations

import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from spcl_fast import CurriculumSampler, pacing


def make_loader(workers: int) -> StatefulDataLoader:
    """The same in every process."""
    difficulty = torch.linspace(0, 1, 100)
    sampler = CurriculumSampler(100, difficulty=difficulty, pace=pacing.LinearPace(start=0.4, total=3), seed=7)
    return StatefulDataLoader(list(range(100)), batch_size=8, sampler=sampler, num_workers=workers)


def main() -> None:
    """Stops after two batches of the second epoch, and goes on elsewhere."""
    whole, first, second = make_loader(0), make_loader(2), make_loader(2)
    whole.sampler.set_epoch(1)
    expected = [batch.tolist() for batch in whole]

    first.sampler.set_epoch(1)
    batches = iter(first)
    seen = [next(batches).tolist() for _ in range(2)]
    second.load_state_dict(first.state_dict())
    seen += [batch.tolist() for batch in second]
    print(f"{len(seen)} batches, as without the interruption: {seen == expected}")


if __name__ == "__main__":
    main()
