"""The command line: one file a command."""

from __future__ import annotations

import sys
from typing import Any

import typer

from spcl_fast.cli import bench, demo, doctor, experiment, import_, report, rescore, select, threshold, train

# The base of everything that is raised for a wrong argument; typer does not name it in public.
_Refusal: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
INTERRUPTED = 130
#: what goes on with an interrupted run; any other command is begun anew
CONTINUES = {"train": "`train --resume`", "experiment": "the same command", "rescore": "the same command"}

app = typer.Typer(
    name="spcl-fast",
    help="Self-paced curriculum learning for emotion recognition in conversations.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (demo, import_, train, experiment, report, rescore, threshold, select, bench, doctor):
    name = command.__name__.rpartition(".")[2]
    app.command(name.rstrip("_"))(getattr(command, name))


@app.callback(invoke_without_command=True)
def _spcl_fast(context: typer.Context, version: bool = typer.Option(False, help="Print the version and stop.")) -> None:
    if version:
        from spcl_fast import __version__

        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Runs a command. Bad arguments and bad files: one line on stderr and exit code 2, no traceback."""
    try:
        code = app(args=arguments, prog_name="spcl-fast", standalone_mode=False)
    except _Refusal as error:
        code = _refuse(error.format_message())
    except ModuleNotFoundError as error:
        extras = {"merc": ("sklearn", "scipy", "yaml"), "report": ("matplotlib", "plotly"), "corpus": ("pyarrow",)}
        extra = {module: extra for extra, modules in extras.items() for module in modules}.get(
            (error.name or "").partition(".")[0]
        )
        if extra is None:
            raise
        code = _refuse(f"this command needs {error.name}: install spcl_fast[{extra}]")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer turns the interrupt of a running command into its exit code
        words = sys.argv[1:] if arguments is None else arguments
        command = next((word for word in words if not word.startswith("-")), "")
        how = f", and {CONTINUES[command]} continues" if command in CONTINUES else ""
        typer.echo(f"spcl-fast: interrupted; what was written is whole{how}", err=True)
    sys.exit(code or 0)


def _refuse(message: str) -> int:
    typer.echo(f"spcl-fast: error: {' '.join(message.split())}", err=True)
    return 2
