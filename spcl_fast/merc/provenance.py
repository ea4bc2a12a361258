"""What made a result: the code, for whoever finds the number later."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import spcl_fast

__all__ = ["code_version"]


@cache
def code_version() -> str:
    """The version of the package, and in a checkout the commit: `0.1.0+0f7bde7c3a52`.

    A checkout whose tracked files differ from the commit says so by `.changed` at the end. Asked once a process, since
    what is imported stays what it is.

    Returns:
        The version alone where the package is installed without a checkout, or where git cannot tell.

    Example:
        >>> import spcl_fast
        >>> from spcl_fast.merc.provenance import code_version
        >>> code_version().partition("+")[0] == spcl_fast.__version__
        True
    """
    return _version_of(Path(spcl_fast.__file__).parents[1])


def _version_of(root: Path) -> str:
    version = spcl_fast.__version__
    if not (root / ".git").exists():  # nor is a checkout that it is installed below of this code
        return version
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD").strip()
        changed = _git(root, "status", "--porcelain", "--untracked-files=no").strip()
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+{commit}{'.changed' if changed else ''}"


def _git(root: Path, *arguments: str) -> str:
    # Reads alone: it takes no lock that a commit of the same moment would wait for.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
