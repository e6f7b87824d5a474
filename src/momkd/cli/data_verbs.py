"""Verbs over files and tables: what is there, and whether it can be used."""

from pathlib import Path
from typing import Annotated

import typer

from momkd.cli.application import Config, CoordsDir, MaxSkip, Mpp, Set, app, with_problems
from momkd.errors import DataError


@app.command()
def init(
    features: Annotated[list[Path], typer.Option(help="Folder of feature files; repeatable.")],
    clinical: Annotated[Path, typer.Option(help="Table with cases, slides and labels.")],
    target: Annotated[str, typer.Option(help="Label column, such as HER2.")],
    rna: Annotated[Path | None, typer.Option(help="Wide RNA table.")] = None,
    positive: Annotated[list[str] | None, typer.Option(help="Positive value; repeatable.")] = None,
    negative: Annotated[list[str] | None, typer.Option(help="Negative value; repeatable.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("momkd.yaml"),
    force: Annotated[bool, typer.Option(help="Overwrite the file.")] = False,
) -> None:
    """Write a short momkd.yaml from your files."""
    from momkd.workflows.init import init as run

    path = run(
        features=features,
        clinical=clinical,
        target=target,
        rna=rna,
        positive=positive or (),
        negative=negative or (),
        output=output,
        force=force,
    )
    typer.echo(f"wrote {path}; next: momkd check -c {path}")


@app.command()
def check(
    config: Config,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for cohort.csv, dropped.csv.")
    ] = None,
    set_: Set = None,
    max_skip: MaxSkip = 0.0,
    workers: Annotated[int, typer.Option(help="Reader processes.")] = 1,
) -> None:
    """Read every file and table, show all faults at once; train nothing."""
    from momkd.workflows.check import check as run
    from momkd.workflows.tables import show_check

    show_check(
        with_problems(
            output or Path(),
            lambda: run(config, output=output, set_=set_ or (), max_skip=max_skip, workers=workers),
        )
    )


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help="Feature files or RNA tables.")],
    feature_key: Annotated[str | None, typer.Option(help="Dataset of the embeddings.")] = None,
    coords_dir: CoordsDir = None,
    mpp: Mpp = None,
) -> None:
    """Say which convention each file follows, and why."""
    from momkd.workflows.inspect import inspect as run
    from momkd.workflows.tables import show_files

    inspection = run(files, feature_key=feature_key, coords=coords_dir, mpp=mpp)
    show_files(inspection)
    if inspection.problems:
        raise DataError(*inspection.problems)


@app.command()
def pack(
    config: Config,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the cache.")
    ] = None,
    precision: Annotated[str, typer.Option(help="float16, or float32.")] = "float16",
    set_: Set = None,
    max_skip: MaxSkip = 0.0,
    workers: Annotated[int, typer.Option(help="Reader processes.")] = 1,
) -> None:
    """Pack a cohort's feature files for fast reading; training then uses the packed ones."""
    from momkd.workflows.pack import pack as run

    packed = run(
        config,
        output=output,
        precision=precision,
        set_=set_ or (),
        max_skip=max_skip,
        workers=workers,
    )
    typer.echo(packed.line())
