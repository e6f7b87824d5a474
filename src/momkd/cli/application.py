"""The program itself: options every verb shares, and how it ends.

Heavy imports stand inside the commands, so that ``--help`` is instant.
"""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from momkd.errors import ConfigError, MomkdError

_SHOWN = 20

# typer carries its own copy of click since 0.20; this is the base of usage errors in either
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)

app = typer.Typer(
    name="momkd",
    help="Biomarkers from slides alone, taught by RNA.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    list[Path], typer.Option("--config", "-c", help="momkd.yaml; repeat to override.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key.")
]
Workers = Annotated[int | None, typer.Option(help="Processes; default fits cores and memory.")]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="momkd,momkd:code,momkd+shuffled,abmil or all; default: config."),
]
SitePreserved = Annotated[
    bool, typer.Option("--site-preserved", help="No site in training and test of a fold.")
]
PairedOnly = Annotated[
    bool, typer.Option("--paired-only", help="Leave out cases that lack slide or RNA.")
]
Mpp = Annotated[float | None, typer.Option(help="um per level-0 pixel, for slides without.")]
MppFromPower = Annotated[
    bool, typer.Option("--mpp-from-power", help="Estimate it from the objective; recorded.")
]
CoordsDir = Annotated[
    Path | None, typer.Option(help="Folder of tile corners, where features lie apart from them.")
]
MaxSkip = Annotated[float, typer.Option(help="Share of slides that may be left out.")]


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option(help="Show a traceback with a refusal.")] = False,
    quiet: Annotated[bool, typer.Option(help="Print results and refusals only.")] = False,
) -> None:
    _state["debug"] = debug
    if quiet:
        from momkd.workflows.console import set_quiet

        set_quiet(True)


_state: dict[str, bool] = {"debug": False}


def with_problems(folder: Path, work: Callable[[], Any]) -> Any:
    """Leave ``problems.csv`` in an output folder that exists, when the work is refused."""
    try:
        return work()
    except MomkdError as error:
        if len(error.problems) > 1 and folder.is_dir():
            from momkd.workflows.audit import write_problems

            write_problems(folder / "problems.csv", error.problems)
        raise


def _refuse(error: MomkdError) -> int:
    for problem in error.problems[:_SHOWN]:
        print(f"error{problem.line()}", file=sys.stderr)
    more = len(error.problems) - _SHOWN
    if more > 0:
        print(f"... and {more} more, see problems.csv", file=sys.stderr)
    return error.exit_code


def main() -> None:
    """Run the command line; every refusal is one line a fault and an exit code of the design."""
    # a name that the console cannot show is spelt out: no work fails for it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # waiting threads sleep: where others use the cores too, spinning costs ten times the work
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported, later
    try:
        code = app(standalone_mode=False)
    except typer.Exit as done:
        code = done.exit_code
    except typer.Abort:
        code = 130
    except _UsageError as error:
        text = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        code = _refuse(ConfigError.of("G07", "command line", text, "momkd --help"))
    except MomkdError as error:
        if _state["debug"]:
            raise
        code = _refuse(error)
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
