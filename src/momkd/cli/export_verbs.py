"""``momkd export``: a model, a run's predictions or a cohort in the form that others read."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from momkd.cli.application import Config, MaxSkip, Set, app, with_problems


class ModelOrVerb(TyperGroup):
    """``momkd export RUN ...`` is ``momkd export model RUN ...``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Take what is no verb for the run or model that is to be exported."""
        if args and args[0] not in self.commands:
            args = ["model", *args]
        return super().resolve_command(ctx, args)


export = typer.Typer(
    cls=ModelOrVerb,
    help="Write a model, a run's predictions or a cohort in the form that others read: "
    "momkd export RUN --to hub|onnx|stamp-csv|clam-csv -o OUT",
    no_args_is_help=True,
    context_settings={"ignore_unknown_options": True},
)
app.add_typer(export, name="export")


@export.command()
def model(
    source: Annotated[
        Path, typer.Argument(metavar="RUN_OR_MODEL", help="Run, predictor, or exported folder.")
    ],
    to: Annotated[str, typer.Option("--to", help="hub, onnx, stamp-csv or clam-csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; of onnx a file.")],
    only: Annotated[str | None, typer.Option(help="One model of the run.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what an earlier export wrote.")
    ] = False,
) -> None:
    """Write a trained model for the Hub or as an ONNX graph, or a run's predictions as tables.

    The word "model" may be left out: momkd export RUN --to hub -o DIR.
    """
    from momkd.workflows.export_model import export_model

    done = export_model(source, output, to=to, only=only, force=force)
    for note in done.notes:
        typer.echo(note)
    typer.echo(f"wrote {done.path}: {done.what}")


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
