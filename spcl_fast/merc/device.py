"""Where a run takes place."""

from __future__ import annotations

import torch


def find_device(name: str | torch.device) -> torch.device:
    """The device of this name; "auto" is the GPU that torch prefers, or else the CPU.

    Args:
        name: "auto", or what `torch.device` takes.

    Returns:
        The device, a GPU with its number.

    Raises:
        ValueError: this torch or this machine does not have it, with the reason.

    Example:
        >>> from spcl_fast.merc.device import find_device
        >>> find_device("cpu")
        device(type='cpu')
        >>> find_device("auto").type in ("cpu", "cuda")
        True
    """
    if str(name) == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name}: {_line(error)}") from error
    if device.type == "cuda":
        reason = _why_no_gpu(device.index)
        if reason is not None:
            raise ValueError(f"device {name}: {reason}")
        return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # what torch raises for a device that it does not have
        raise ValueError(f"device {name}: {_line(error)}") from error
    return device


def describe(device: torch.device) -> str:
    """The device with the name of its model, for the files of a run.

    Example:
        >>> from spcl_fast.merc.device import describe, find_device
        >>> describe(find_device("cpu"))
        'cpu'
    """
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _why_no_gpu(index: int | None) -> str | None:
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is a CPU build"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # no driver, one too old, none of its GPUs visible
        return _line(error)
    count = torch.cuda.device_count()
    if count == 0:
        return "torch finds no GPU"
    return None if index is None or index < count else f"this machine has {count} GPU(s), numbered from 0"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
