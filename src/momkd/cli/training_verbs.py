"""Verbs that learn."""

from pathlib import Path
from typing import Annotated

import typer

from momkd.cli.application import (
    Config,
    MaxSkip,
    ModelName,
    PairedOnly,
    Set,
    SitePreserved,
    Workers,
    app,
    with_problems,
)


@app.command()
def crossval(
    config: Config,
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder.")],
    model: ModelName = None,
    folds: Annotated[int | None, typer.Option(help="Instead of folds.n.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeats, each with its own split.")] = 1,
    workers: Workers = None,
    set_: Set = None,
    max_skip: MaxSkip = 0.0,
    site_preserved: SitePreserved = False,
    paired_only: PairedOnly = False,
    controls: Annotated[
        bool, typer.Option("--controls", help="Run the controls of distillation beside each model.")
    ] = False,
    method: Annotated[
        str | None, typer.Option(help="The model to be tested, named beforehand: momkd compare.")
    ] = None,
    search: Annotated[
        int | None, typer.Option(help="Trials on the inner split of each fold: search.trials.")
    ] = None,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Freeze the protocol and stop; train later.")
    ] = False,
) -> None:
    """Cross-validate; an interrupted run goes on with the same command."""
    from momkd.workflows.crossval import crossval as run
    from momkd.workflows.tables import show_metrics, show_protocol

    folder = with_problems(
        output,
        lambda: run(
            config,
            output,
            model=model,
            folds=folds,
            seeds=seeds,
            workers=workers,
            set_=set_ or (),
            max_skip=max_skip,
            site_preserved=site_preserved,
            paired_only=paired_only,
            controls=controls,
            method=method,
            freeze=freeze,
            search=search,
        ),
    )
    if freeze:
        show_protocol(folder)
        return
    show_metrics(folder)


@app.command()
def train(
    config: Config,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the predictor.")],
    model: ModelName = None,
    seed: Annotated[int, typer.Option()] = 0,
    set_: Set = None,
    max_skip: MaxSkip = 0.0,
    devices: Annotated[
        int | None, typer.Option(help="Processes that share each batch; default fit.devices.")
    ] = None,
) -> None:
    """Train one final predictor on everything."""
    from momkd.workflows.train import train as run

    path = with_problems(
        output,
        lambda: run(
            config,
            output,
            model=model,
            seed=seed,
            set_=set_ or (),
            max_skip=max_skip,
            devices=devices,
        ),
    )
    typer.echo(f"predictor: {path}")
