"""Files of a run: written whole or not at all, read without trusting them."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import torch


class CheckpointError(ValueError):
    """A checkpoint is damaged, or of another run.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.merc.files import CheckpointError, load_checkpoint
        >>> try:
        ...     load_checkpoint(Path("lost.pt"))
        ... except CheckpointError as error:
        ...     print(error)
        lost.pt: not a checkpoint that can be read (...)
    """


def write_atomically(path: Path, content: bytes) -> None:
    """Puts `content` at `path`: who reads it meets the old file or the new one, also after a crash.

    Makes the folder of `path` where there is none.

    Raises:
        OSError: it cannot be written; the old file stays as it was.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.merc.files import write_atomically
        >>> write_atomically(Path("run", "notes.txt"), b"whole")
        >>> Path("run", "notes.txt").read_bytes(), len(list(Path("run").iterdir()))
        (b'whole', 1)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON, whole or not at all; numbers that JSON does not have become null.

    Raises:
        TypeError: a value that JSON has no form for.
        OSError: it cannot be written.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from spcl_fast.merc.files import write_json
        >>> write_json(Path("metrics.json"), {"weighted_f1": 0.5, "deviation": float("nan")})
        >>> json.loads(Path("metrics.json").read_text())
        {'weighted_f1': 0.5, 'deviation': None}
    """
    write_atomically(path, (json.dumps(_finite(value), indent=2, allow_nan=False) + "\n").encode())


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain containers, whole or not at all, for `load_checkpoint`.

    Raises:
        OSError: it cannot be written; the old file stays as it was.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from spcl_fast.merc.files import load_checkpoint, save_checkpoint
        >>> save_checkpoint(Path("run.pt"), {"epoch": 3, "weight": torch.ones(2)})
        >>> load_checkpoint(Path("run.pt"))["epoch"]
        3
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads what `save_checkpoint` wrote; nothing but tensors and plain containers is ever unpickled.

    Returns:
        The state, its tensors on the CPU.

    Raises:
        CheckpointError: a file that is missing or damaged, or holds anything else.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from spcl_fast.merc.files import load_checkpoint, save_checkpoint
        >>> save_checkpoint(Path("run.pt"), {"epoch": 3, "weight": torch.ones(2)})
        >>> load_checkpoint(Path("run.pt"))["weight"].tolist()
        [1.0, 1.0]
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path}: not a checkpoint that can be read ({reason})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not a checkpoint of a training run (got {type(state).__name__})")
    return state


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
