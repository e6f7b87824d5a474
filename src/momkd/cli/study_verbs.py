"""Verbs over finished runs, and the offline demonstration."""

from pathlib import Path
from typing import Annotated

import typer

from momkd.cli.application import Workers, app


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    predictions: Annotated[
        Path | None, typer.Option(help="Score this table (case_id, y_true, prob_*) instead.")
    ] = None,
    external: Annotated[
        Path | None, typer.Option(help="momkd.yaml of a cohort the run has never seen.")
    ] = None,
) -> None:
    """Metrics with case-level intervals, per fold and pooled, and figures."""
    from momkd.workflows.evaluate import evaluate as run
    from momkd.workflows.tables import show_metrics

    show_metrics(run(run_folder, predictions=predictions, external=external))


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("demo-run"),
    cases: Annotated[int, typer.Option(help="Simulated cases to train on.")] = 160,
    seed: Annotated[int, typer.Option()] = 0,
    workers: Workers = None,
) -> None:
    """Simulate a cohort, cross-validate MoMKD and ABMIL, predict from slides alone, report."""
    from momkd.workflows.demo import demo as run

    report = run(output, n_cases=cases, seed=seed, workers=workers)
    typer.echo(report.table)
    typer.echo(f"report: {report.path}")
