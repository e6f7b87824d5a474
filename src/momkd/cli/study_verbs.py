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
def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    predictions: Annotated[
        bool, typer.Option("--predictions", help="They are tables: case_id, y_true, prob_*, fold.")
    ] = False,
    method: Annotated[
        str | None, typer.Option(help="The model named beforehand; default momkd, or the first.")
    ] = None,
    metric: Annotated[str, typer.Option(help="auroc, auprc, brier, ...")] = "auroc",
    model: Annotated[str | None, typer.Option(help="a,b,c: only these; default all.")] = None,
    rope: Annotated[float, typer.Option(help="Differences below it do not matter.")] = 0.01,
    show_naive: Annotated[
        bool, typer.Option("--show-naive", help="The uncorrected test beside, as a warning.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default the first run.")
    ] = None,
) -> None:
    """Test one model against the others on the same cases, and say what may be claimed."""
    from momkd.workflows.compare import compare as run
    from momkd.workflows.tables import show_comparison

    show_comparison(
        run(
            *paths,
            predictions=predictions,
            method=method,
            metric=metric,
            models=model,
            rope=rope,
            show_naive=show_naive,
            output=output,
        )
    )


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
