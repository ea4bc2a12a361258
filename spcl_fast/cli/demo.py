"""`spcl-fast demo`: the main job on a corpus that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spcl_fast.cli.options import Threads

HIDDEN = 64  # wide enough for this corpus, and three seeds take two minutes


def demo(
    preset: Annotated[str, typer.Option(help="Synthetic corpus: iemocap-like or meld-like.")] = "iemocap-like",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each configuration.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each run.")] = 25,
    threshold: Annotated[float, typer.Option(help="SPCL's first threshold (epsilon).")] = 0.4,
    growth: Annotated[float, typer.Option(help="SPCL's growth of the threshold per epoch (alpha).")] = 1.2,
    threads: Threads = 1,
    out: Annotated[Path, typer.Option(help="Folder for the figure and metrics.json.")] = Path("runs/demo"),
) -> None:
    """Train with and without SPCL on a synthetic corpus, and compare."""
    import torch

    from spcl_fast import backends
    from spcl_fast.cli.console import console, progress, refusing, results_table
    from spcl_fast.merc.files import write_json
    from spcl_fast.merc.seeds import run_seeds, summarize
    from spcl_fast.merc.synthetic import make_synthetic
    from spcl_fast.merc.trainer import TrainConfig
    from spcl_fast.report.curriculum import plot_curriculum

    with refusing():
        dataset = make_synthetic(preset)
        configs = {
            "no curriculum": TrainConfig(curriculum="none", epochs=epochs, hidden=HIDDEN),
            "SPCL": TrainConfig(curriculum="spcl", threshold=threshold, growth=growth, epochs=epochs, hidden=HIDDEN),
        }
        out.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(threads)
    say = console().print
    counts = ", ".join(f"{d} dialogues ({n} utterances) {split}" for split, (d, n) in dataset.counts().items())
    say(f"{dataset.name}: {counts}; {dataset.num_classes} classes; {', '.join(dataset.features)}.")
    say("It is synthetic: it matches the published statistics of a corpus, and its scores mean nothing else.")

    with progress() as bar, refusing():
        task = bar.add_task("", total=len(configs) * seeds * epochs)

        def report(name: str, seed: int, entry: dict[str, Any]) -> None:
            f1 = 100 * entry["dev"]["weighted_f1"]
            bar.update(task, advance=1, description=f"{name}, seed {seed}: dev weighted F1 {f1:.1f} %")

        results = run_seeds(dataset, configs, range(seeds), on_epoch=report)

    summaries = {name: summarize(runs) for name, runs in results.items()}
    title = f"Late fusion, GRU, {epochs} epochs, mean ± standard deviation over {seeds} seed(s)"
    say(results_table(title, list(dataset.features), summaries))
    plain, taught = ([r.test.weighted_f1 for r in runs if r.test is not None] for runs in results.values())
    gains = [100 * (b - a) for a, b in zip(plain, taught, strict=True)]
    say(f"SPCL against none, same seed, points of weighted F1: {', '.join(f'{x:+.1f}' for x in gains)}.")

    figure, numbers = out / "curriculum.png", out / "metrics.json"
    with refusing():
        plot_curriculum({n: [r.history for r in runs] for n, runs in results.items()}, list(dataset.features), figure)
        write_json(
            numbers,
            {
                "corpus": dataset.name,
                "summary": {name: s._asdict() for name, s in summaries.items()},
                "runs": {name: [_as_dict(r) for r in runs] for name, runs in results.items()},
                "environment": {row.name: row.value for row in backends.report() if row.section != "build"},
            },
        )
    say(f"Figure: {figure}\nAll numbers: {numbers}")


def _as_dict(result: Any) -> dict[str, Any]:
    return {
        "best_epoch": result.best_epoch,
        "dev": result.dev._asdict(),
        "test": None if result.test is None else result.test._asdict(),
        "history": result.history,
    }
