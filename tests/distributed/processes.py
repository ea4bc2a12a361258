"""Runs a function in several processes that form a gloo group: `run(world_size, function, *args)`.

A new process imports the function's file, and torch with it, and forks itself into those of the group while it still
has one thread. They meet by a file, so no port is opened. A run takes two seconds, most of them for importing torch: a
test file should run once for each world size and look at many things there.

As a script this is that first process.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 120
_FAILED = "failed"  # the file in which the first process names the ranks that failed


class ProcessError(AssertionError):
    """A process failed; the message has its rank and its traceback."""


def run(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What `function(*args)` returns in each process of a group, by rank.

    Args:
        world_size: how many processes; each has one thread, and torch.distributed is set up in it.
        function: of the top level of a file, which is imported anew. Warnings are errors in it.
        *args: what pickle takes; so is what the function returns.

    Raises:
        ProcessError: a process has raised or died, which ends the others, or they take longer than two minutes.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = inspect.getfile(function), function.__module__, function.__qualname__
        (folder / "source").write_bytes(pickle.dumps(source))
        (folder / "arguments").write_bytes(pickle.dumps(args))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with (folder / "output").open("w") as output:
            first = subprocess.Popen(
                [sys.executable, __file__, str(world_size), name],
                env={**os.environ, **threads, "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that it can be ended with all that it forked
            )
        try:
            code = first.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
            raise ProcessError(f"{world_size} processes have not ended after {MOST_SECONDS} s") from None
        if code == 0:
            return [pickle.loads((folder / f"result{rank}").read_bytes()) for rank in range(world_size)]
        failed = (folder / _FAILED).read_text().split() if (folder / _FAILED).exists() else []
        texts = [f"rank {rank} of {world_size}:\n{(folder / f'output{rank}').read_text()}" for rank in failed]
        raise ProcessError("\n".join(texts or [(folder / "output").read_text()]))


def _fork_all(world_size: int, folder: Path) -> int:
    """The exit code of the first process."""
    file, module_name, qualified_name = pickle.loads((folder / "source").read_bytes())
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    ranks: dict[int, int] = {}
    for rank in range(world_size):
        pid = os.fork()
        if pid == 0:
            _be_rank(rank, world_size, folder, module, qualified_name)
        ranks[pid] = rank
    failed = []
    while ranks:
        pid, status = os.wait()
        rank = ranks.pop(pid)
        if status == 0 or (failed and os.WIFSIGNALED(status)):
            continue
        failed.append(rank)
        for other in ranks:  # which may wait for it for ever
            os.kill(other, signal.SIGKILL)
    (folder / _FAILED).write_text(" ".join(map(str, failed)))
    return 1 if failed else 0


def _be_rank(rank: int, world_size: int, folder: Path, module: ModuleType, qualified_name: str) -> None:
    """One of the group; does not return."""
    import torch
    import torch.distributed as dist

    output = os.open(folder / f"output{rank}", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder / 'meeting'}",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=MOST_SECONDS),
        )
        args = pickle.loads((folder / "arguments").read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = getattr(module, qualified_name)(*args)
        (folder / f"result{rank}").write_bytes(pickle.dumps(result))
        dist.barrier()  # nobody leaves while another may still talk to it
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once, whatever threads torch has started


if __name__ == "__main__":
    sys.exit(_fork_all(int(sys.argv[1]), Path(sys.argv[2])))
