"""The statistics of every epoch in TensorBoard and in `logging`.

`pip install 'spcl_fast[adapters]'`, run this file, and `tensorboard --logdir runs/curriculum` shows them.
"""

from __future__ import annotations

import logging

import torch
from torch.utils.tensorboard import SummaryWriter

from spcl_fast import SelfPacedScheduler
from spcl_fast.integrations.writers import log_stats, write_stats

MODALITIES = ("text", "audio")


def main() -> None:
    """Trains two heads on made-up utterances."""
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO)
    torch.manual_seed(0)
    features, offsets = torch.randn(60, 8), torch.arange(0, 61, 6)
    labels = (features @ torch.randn(8, 3)).argmax(1)
    heads = {name: torch.zeros(8, 3, requires_grad=True) for name in MODALITIES}
    optimizer = torch.optim.Adam(heads.values(), lr=0.1)
    scheduler = SelfPacedScheduler(threshold=0.5, growth=1.4)
    with SummaryWriter("runs/curriculum") as writer:
        for epoch in range(4):
            step = scheduler({name: features @ head for name, head in heads.items()}, labels, offsets)
            optimizer.zero_grad()
            step.loss.backward()
            optimizer.step()
            stats = scheduler.end_epoch()
            write_stats(writer, stats, epoch, modalities=MODALITIES)
            log_stats(stats, modalities=MODALITIES)


if __name__ == "__main__":
    main()
