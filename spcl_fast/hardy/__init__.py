"""HARDY-MER (arXiv 2508.06800): missing modalities, and a curriculum that retrieves more neighbours for the harder.

The public names load on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spcl_fast.hardy.network import HardyNetwork
    from spcl_fast.hardy.options import HardyOptions
    from spcl_fast.hardy.protocols import MissingProtocol, parse_available, subsets
    from spcl_fast.hardy.retrieval import NeighbourTable
    from spcl_fast.hardy.trainer import HardyTrainer

# public name -> the module that defines it
_EXPORTS = {
    "HardyNetwork": "spcl_fast.hardy.network",
    "HardyOptions": "spcl_fast.hardy.options",
    "HardyTrainer": "spcl_fast.hardy.trainer",
    "MissingProtocol": "spcl_fast.hardy.protocols",
    "NeighbourTable": "spcl_fast.hardy.retrieval",
    "parse_available": "spcl_fast.hardy.protocols",
    "subsets": "spcl_fast.hardy.protocols",
}

__all__ = [
    "HardyNetwork",
    "HardyOptions",
    "HardyTrainer",
    "MissingProtocol",
    "NeighbourTable",
    "parse_available",
    "subsets",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'spcl_fast.hardy' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_EXPORTS))
