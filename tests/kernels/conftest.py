"""The kernels need a GPU or Triton's interpreter: without either, `test_kernels.py` runs their tests in a process."""

from __future__ import annotations

from spcl_fast import kernels

collect_ignore = [] if kernels.why_not() is None else ["on_device"]
