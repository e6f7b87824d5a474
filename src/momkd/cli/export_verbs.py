"""Verbs that write what other tools read."""

from pathlib import Path
from typing import Annotated

import typer

from momkd.cli.application import Config, MaxSkip, Set, app, with_problems

export = typer.Typer(help="Write tables that other tools read.", no_args_is_help=True)
app.add_typer(export, name="export")


@export.command()
def tables(
    config: Config,
    convention: Annotated[
        str, typer.Option("--as", help="stamp, clam, patho-bench, slideflow or trident.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
    set_: Set = None,
    max_skip: MaxSkip = 0.0,
    workers: Annotated[int, typer.Option(help="Reader processes.")] = 1,
) -> None:
    """Write the cohort and its folds for another tool."""
    from momkd.workflows.export_tables import export_tables
    from momkd.workflows.tables import show_export

    show_export(
        with_problems(
            output,
            lambda: export_tables(
                config,
                output,
                convention=convention,
                set_=set_ or (),
                max_skip=max_skip,
                workers=workers,
            ),
        )
    )


@export.command()
def predictions(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    convention: Annotated[str, typer.Option("--as", help="stamp or clam.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
) -> None:
    """Write a run's test predictions for another tool's statistics."""
    from momkd.workflows.export_predictions import export_predictions
    from momkd.workflows.tables import show_export

    show_export(export_predictions(run_folder, output, convention=convention))
