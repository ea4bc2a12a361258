"""Small dialogues, a model of two modalities, and what of the hosts' own warnings is not ours to mend.

These tests need the packages of the extra `adapters`: `make test-extras` installs them into an environment of its own
and runs them. `make test` does not look here.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

LENGTHS = (3, 5, 2, 4, 6, 3, 4, 5)
CLASSES = 3
#: warnings by their text, of lightning, torchdata, accelerate and transformers about torch and themselves
OF_THE_HOSTS = (
    "ignore:.*isinstance.treespec, LeafSpec.:",
    "ignore:.*set_vital:UserWarning",
    "ignore:.*does not have many workers:",
    "ignore:.*smaller than the logging interval:",
    "ignore:.*pin_memory. argument is set as true but no accelerator is found:UserWarning",
    "ignore:The .* already configured with model summary:",
    "ignore:.*Checkpoint directory .* exists and is not empty:",
    "ignore:You called .self.log.*but have no logger configured:",
    "ignore:.*Trying to infer the .batch_size. from an ambiguous collection:",
    "ignore:.*resuming from a checkpoint that ended before the epoch ended:",
    "ignore:.*callbacks used to create the checkpoint need to be provided:UserWarning",
    "ignore:You defined a .validation_step. but have no .val_dataloader.:",
    "ignore:.*is not a process group or is not initialized:",
    "ignore:unclosed:ResourceWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "extras" in item.path.parts:
            for warning in OF_THE_HOSTS:
                item.add_marker(pytest.mark.filterwarnings(warning))


class Heads(nn.Module):
    """A head of logits for each of two modalities."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.audio = nn.Linear(4, CLASSES), nn.Linear(4, CLASSES)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"text": self.text(features), "audio": self.audio(features)}


@pytest.fixture
def make_heads():
    """The same model each time."""

    def make() -> Heads:
        torch.manual_seed(0)
        return Heads()

    return make


@pytest.fixture
def dialogues() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "features": torch.randn(n, 4, generator=generator),
            "labels": torch.randint(CLASSES, (n,), generator=generator),
        }
        for n in LENGTHS
    ]


@pytest.fixture
def difficulty() -> Tensor:
    return torch.tensor([0.5, 0.2, 0.9, 0.1, 0.7, 0.3, 0.8, 0.4])


@pytest.fixture
def collate():
    """Whole dialogues, concatenated."""
    return collate_dialogues


def collate_dialogues(dialogues: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    lengths = [len(dialogue["labels"]) for dialogue in dialogues]
    batch = {name: torch.cat([dialogue[name] for dialogue in dialogues]) for name in ("features", "labels")}
    return {**batch, "offsets": torch.tensor([0, *lengths]).cumsum(0)}
