"""`spcl-fast rescore`: every utterance of a corpus past memory scored, from stored logits or by a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer


def rescore(
    corpus: Annotated[str, typer.Argument(help="Folder or URI of the corpus (`import --store` makes one).")],
    out: Annotated[str, typer.Option(help="Folder or URI of the scores; what is there already is continued.")],
    columns: Annotated[
        str | None,
        typer.Option(
            help="By commas: loss, confidence (or loss.text ...), spread, coherence, transition, surprisal, "
            "utterance_loss, difficulty. All that there can be by default."
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the scores on disk: float32 or float16.")] = "float32",
    difficulty: Annotated[str, typer.Option(help="spcl, extended, loss or spread.")] = "spcl",
    aggregate: Annotated[str, typer.Option(help="Of the spread: sum or mean.")] = "sum",
    window: Annotated[int, typer.Option(help="Utterances in a window of the coherence, odd.")] = 5,
    source: Annotated[str, typer.Option(help="What the coherence compares: prediction or embedding.")] = "prediction",
    incoherence: Annotated[float, typer.Option(help="Weight in the extended difficulty.")] = 1.0,
    transition: Annotated[float, typer.Option(help="Weight in the extended difficulty.")] = 1.0,
    surprisal: Annotated[float, typer.Option(help="Weight in the extended difficulty.")] = 0.0,
    transitions: Annotated[
        Path | None,
        typer.Option(help="JSON file of counts, or folder of scores, that the surprisal is over; saves a pass."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="PACKAGE.MODULE:FACTORY", help="Makes the module whose logits are scored.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Its parameters; nothing else is unpickled.")] = None,
    device: Annotated[str, typer.Option(help="Of the model: cpu, cuda, cuda:1 or auto.")] = "cpu",
    batch_utterances: Annotated[int, typer.Option(min=1, help="About so many go through the model at a time.")] = 4096,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default this process' share of the CPUs.")
    ] = None,
    memory: Annotated[int, typer.Option(min=1, help="MB that the workers take at most, together.")] = 512,
    verify: Annotated[bool, typer.Option(help="Compare the checksums of the corpus.")] = True,
    rank: Annotated[int, typer.Option(envvar="RANK", min=0, help="This process, of several in one folder.")] = 0,
    world_size: Annotated[int, typer.Option(envvar="WORLD_SIZE", min=1, help="How many there are.")] = 1,
    timeout: Annotated[
        float, typer.Option(help="Rank 0 gives up another that has said nothing for so many seconds.")
    ] = 600.0,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score every utterance of a corpus; killed at any moment, the same command continues."""
    import json as format
    import time

    from spcl_fast.cli.console import console, progress_of_rows, refusing
    from spcl_fast.corpus import open_corpus, plan, rescore_rank

    with refusing(f"rank {rank} of {world_size}: " if world_size > 1 else ""):
        if rank >= world_size:
            raise ValueError(f"--rank must be below --world-size {world_size} (got {rank})")
        opened = open_corpus(corpus)
        own = plan(opened, world_size)[rank]
        start = time.perf_counter()
        with progress_of_rows(sum(opened.shards[index].utterances for index in own)) as advance:
            done = rescore_rank(
                opened,
                out,
                rank=rank,
                world_size=world_size,
                timeout=timeout,
                columns=None if columns is None else [name.strip() for name in columns.split(",")],
                dtype=dtype,
                difficulty=difficulty,
                aggregate=aggregate,
                window=window,
                source=source,
                incoherence=incoherence,
                transition=transition,
                surprisal=surprisal,
                transitions=transitions,
                model=model,
                checkpoint=checkpoint,
                device=device,
                batch_utterances=batch_utterances,
                workers=workers or _share_of_cpus(),
                memory=memory << 20,
                verify=verify,
                on_progress=advance,
            )
        seconds = time.perf_counter() - start
    facts: dict[str, Any] = {
        "out": out,
        "finished": done.scores is not None,
        "shards": done.shards,
        "reused": done.reused,
        "utterances": done.utterances,
        "seconds": seconds,
        "sync_seconds": done.sync_seconds,
        "summary": None if done.scores is None else done.scores.summary,
    }
    if json:
        print(format.dumps(facts, allow_nan=False))
        return
    say = console().print
    rate = f", {done.utterances / seconds:,.0f} a second" if done.utterances else ""
    say(f"{done.shards} shards of {done.utterances:,} utterances in {seconds:.1f} s{rate}; {done.reused} were there.")
    if done.scores is None:
        say(f"Rank {rank} of {world_size} is through; rank 0 writes the manifest of {out} when all are.")
        return
    summary = done.scores.summary
    faults = ", ".join(f"{summary[name]:,} {name}" for name in ("ignored", "nonfinite", "bad_label", "undefined"))
    say(f"{summary['utterances']:,} utterances, {summary['scored']:,} scored; {faults}.")
    if summary["scored"]:
        means = ", ".join(f"{name} {mean:.3f}" for name, mean in summary["mean_confidence"].items())
        say(f"Mean utterance loss {_number(summary['mean_loss'])}; mean confidence {means}.")
    say(f"Written to {out}: threshold and select take it.")


def _share_of_cpus() -> int:
    """Of the processes that torchrun starts on a machine."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(len(os.sched_getaffinity(0)) // (int(processes) if processes.isdecimal() else 1), 1)


def _number(x: float | None) -> str:
    return "infinite" if x is None else f"{x:.4f}"
