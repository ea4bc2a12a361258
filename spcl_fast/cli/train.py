"""`spcl-fast train`: one run on a corpus of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from spcl_fast.cli.options import Threads


def train(
    data: Annotated[Path, typer.Option(help="Corpus in the .npz format.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json, the figure, the model and the checkpoint.")],
    modalities: Annotated[
        str | None, typer.Option(help="Such as text_lsa+text_glove,audio: '+' joins views of one modality.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="late_fusion, mmgcn, mm_dfn, dialogue_gcn, biddin; hardy where modalities are missing.")
    ] = "late_fusion",
    curriculum: Annotated[
        str, typer.Option(help="none, spcl, or another of docs/study/README.md; of hardy: hardy, hardy_same_label.")
    ] = "spcl",
    available: Annotated[
        str, typer.Option(help="Of hardy: the modalities that there are, by initials (at) or names (audio,text).")
    ] = "all",
    missing: Annotated[
        str, typer.Option(help="Of hardy: fixed, or what lacks modalities by lot, each utterance or each dialogue.")
    ] = "fixed",
    missing_rate: Annotated[float, typer.Option(help="Odds of that for each modality, in [0, 1).")] = 0.0,
    filling: Annotated[
        str, typer.Option(help="What stands for a missing modality: reconstruction, zero or mean.")
    ] = "reconstruction",
    neighbours: Annotated[
        int, typer.Option(help="Of hardy: retrieved at most, and the steps of a batch less one.")
    ] = 3,
    teacher_epochs: Annotated[int, typer.Option(help="Of the teacher that measures hardness, in each stage.")] = 20,
    threshold: Annotated[float, typer.Option(help="First threshold (epsilon), in units of difficulty.")] = 0.7,
    growth: Annotated[float, typer.Option(help="Growth of the threshold per epoch (alpha).")] = 1.25,
    pace_start: Annotated[float, typer.Option(help="Of curricula with a pace: share of the first epoch.")] = 0.5,
    pace_epochs: Annotated[int, typer.Option(help="Of curricula with a pace: epochs until all is let in.")] = 10,
    strength: Annotated[float, typer.Option(help="Weight of extended terms; SuperLoss's regularization.")] = 1.0,
    tilt: Annotated[float, typer.Option(help="Of stochastic curricula: 1 favours the easy, -1 the hard.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the weights, the order of dialogues and the dropout.")] = 0,
    encoder: Annotated[str, typer.Option(help="Of models that have one: gru or transformer.")] = "gru",
    hidden: Annotated[int, typer.Option(help="Width of the encoders.")] = 128,
    dropout: Annotated[float, typer.Option(help="Probability.")] = 0.5,
    epochs: Annotated[int, typer.Option(help="At most so many.")] = 40,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a better dev score.")] = None,
    batch_size: Annotated[int, typer.Option(help="Dialogues in a batch.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="Of Adam.")] = 1e-5,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient.")] = 2.0,
    standardize: Annotated[bool, typer.Option(help="Features to mean 0, deviation 1 over the training part.")] = True,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1, or auto: the GPU where torch finds one, else the CPU.")
    ] = "auto",
    threads: Threads = 1,
    resume: Annotated[bool, typer.Option(help="Continue the run in --out from its last epoch.")] = False,
) -> None:
    """Train one model, choose its best epoch on dev, and score it on test."""
    import torch

    import spcl_fast
    from spcl_fast.cli.console import console, progress, refusing, results_table
    from spcl_fast.merc.device import describe
    from spcl_fast.merc.files import save_checkpoint, write_json
    from spcl_fast.merc.npz import read_npz
    from spcl_fast.merc.seeds import summarize
    from spcl_fast.merc.trainer import TrainConfig
    from spcl_fast.merc.training import make_trainer
    from spcl_fast.report.curriculum import plot_curriculum

    with refusing():
        config = TrainConfig(
            standardize=standardize,
            model=model,
            encoder=encoder,
            hidden=hidden,
            dropout=dropout,
            curriculum=curriculum,
            threshold=threshold,
            growth=growth,
            pace_start=pace_start,
            pace_epochs=pace_epochs,
            strength=strength,
            tilt=tilt,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clip=clip,
            patience=patience,
            seed=seed,
            available=available,
            missing=missing,
            missing_rate=missing_rate,
            filling=filling,
            neighbours=neighbours,
            teacher_epochs=teacher_epochs,
        )
        dataset = read_npz(data, modalities)
        if modalities is None:
            views = ", ".join(dataset.features)
            raise ValueError(f"say --modalities, out of {views}: ',' separates modalities, '+' joins views of one")
        checkpoint = out / "last.pt"
        if resume and not checkpoint.exists():
            raise ValueError(f"--resume: there is no run to continue in {out}")
        if checkpoint.exists() and not resume:
            raise ValueError(f"{out} holds a run already: continue it with --resume, or choose another --out")
        place = _device(device)
        trainer = make_trainer(dataset, config, device=place)
        out.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(threads)
    say = console().print
    for note in dataset.notes:
        say(f"Note: {note}")
    with progress() as bar, refusing():
        task = bar.add_task("", total=epochs)

        def report(entry: dict[str, Any]) -> None:
            f1 = 100 * entry["dev"]["weighted_f1"]
            bar.update(task, completed=entry["epoch"] + 1, description=f"dev weighted F1 {f1:.1f} %")

        result = trainer.fit(checkpoint=checkpoint, resume=resume, on_epoch=report)

    summary = summarize([result])
    title = f"{dataset.name}, {model}, seed {seed}"
    say(results_table(title, list(dataset.features), {curriculum: summary}))
    say(f"Best on dev: epoch {result.best_epoch + 1} of {len(result.history)}; the scores are of that one.")
    with refusing():
        save_checkpoint(out / "model.pt", trainer.model.state_dict())
        plot_curriculum({curriculum: [result.history]}, list(dataset.features), out / "curriculum.png")
        write_json(
            out / "metrics.json",
            {
                "corpus": {"name": dataset.name, "counts": dataset.counts(), "notes": dataset.notes},
                "modalities": {m: x.shape[1] for m, x in dataset.features.items()},
                "config": config.__dict__,
                "best_epoch": result.best_epoch,
                "dev": result.dev._asdict(),
                "test": None if result.test is None else result.test._asdict(),
                "summary": summary._asdict(),
                "history": result.history,
                "versions": {"spcl_fast": spcl_fast.__version__, "torch": torch.__version__},
                "device": describe(place),
                "threads": threads,
            },
        )
    say(f"Written to {out}: metrics.json, curriculum.png, model.pt (best epoch), last.pt (to continue)")


def _device(name: str) -> Any:
    from spcl_fast.merc.device import find_device

    try:
        return find_device(name)
    except ValueError as error:
        raise ValueError(f"--{error}") from error
