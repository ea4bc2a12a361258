"""PyArrow, or what to install."""

from __future__ import annotations

try:
    import pyarrow as pa
    from pyarrow import compute, fs
except ModuleNotFoundError:
    raise ModuleNotFoundError("stores need pyarrow: install spcl_fast[corpus]", name="pyarrow") from None

__all__ = ["compute", "fs", "pa"]
