"""Verbs over finished runs, and over simulated cases: cohorts of them, the demonstration."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from momkd.cli.application import Config, MaxSkip, Set, Workers, app, with_problems


class Start(Enum):
    """What the demonstration starts from."""

    slides = "slides"
    features = "features"


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
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Page to write; default RUN/report.html.")
    ] = None,
    cases: Annotated[
        int, typer.Option(help="List so many of the worst predicted cases, by their ids.")
    ] = 0,
    checklists: Annotated[
        Path | None,
        typer.Option(help="Folder for TRIPOD+AI, CLAIM, the leakage sheet and the flow chart."),
    ] = None,
    examples: Annotated[
        int,
        typer.Option(help="Show so many slides of each class called right, and so many wrong."),
    ] = 0,
) -> None:
    """One self-contained page of a run: figures with intervals, curves, proof, limits."""
    from momkd.workflows.report import report as run
    from momkd.workflows.report import tell_report

    written = run(
        run_folder, output=output, n_cases=cases, n_examples=examples, checklists=checklists
    )
    typer.echo("\n".join(tell_report(written)))


class Depth(Enum):
    """How thoroughly the paper's results are made again."""

    full = "full"
    quick = "quick"


@app.command()
def reproduce(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET...", help="table1 to table4, figure3, figure4, figures1, or all."
        ),
    ],
    config: Config,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of tables and runs.")],
    profile: Annotated[
        Depth, typer.Option(help="quick: few epochs, one seed; shows that the road is whole.")
    ] = Depth.full,
    external: Annotated[
        Path | None, typer.Option(help="momkd.yaml of a cohort never seen, for table2.")
    ] = None,
    slides: Annotated[
        list[Path] | None, typer.Option(help="Slides whose tiles figure4 shows; repeatable.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Instead of the profile's.")] = None,
    folds: Annotated[int | None, typer.Option(help="Instead of folds.n.")] = None,
    workers: Workers = None,
    set_: Set = None,
    max_skip: MaxSkip = 0.0,
) -> None:
    """Tables and figures of the paper over your cohort; the same command goes on."""
    from momkd.workflows.reproduce import reproduce as run
    from momkd.workflows.reproduce import tell_reproduction

    made = with_problems(
        output,
        lambda: run(
            targets,
            config,
            output,
            profile=profile.value,
            external=external,
            slides=slides or (),
            seeds=seeds,
            folds=folds,
            workers=workers,
            set_=set_ or (),
            max_skip=max_skip,
        ),
    )
    typer.echo("\n".join(tell_reproduction(made)))


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("demo-run"),
    cases: Annotated[int, typer.Option(help="Simulated cases to train on.")] = 100,
    new: Annotated[int, typer.Option(help="Simulated new patients to predict.")] = 60,
    grid: Annotated[int, typer.Option(help="Tiles along a side of a simulated slide.")] = 7,
    from_: Annotated[
        Start, typer.Option("--from", help="slides: painted; features: simulated, quicker.")
    ] = Start.slides,
    seed: Annotated[int, typer.Option()] = 0,
    workers: Workers = None,
    set_: Set = None,
) -> None:
    """From slide files to a report: draw, extract, cross-validate, predict new slides."""
    from momkd.workflows.demo import Source
    from momkd.workflows.demo import demo as run

    source: Source = "slides" if from_ is Start.slides else "features"
    report = run(
        output,
        n_cases=cases,
        n_new=new,
        grid_side=grid,
        seed=seed,
        source=source,
        set_=set_ or (),
        workers=workers,
    )
    typer.echo(report.table)
    typer.echo("\n".join(report.notes))
    typer.echo(f"report: {report.path}")


@app.command()
def simulate(
    scenario: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="default, easy, ...; a wrong one lists them.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Absent, or an empty folder.")
    ],
    cases: Annotated[int | None, typer.Option(help="Number of cases; default 1000.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the cohort.")] = 0,
    world: Annotated[int, typer.Option(min=0, help="Of the biology that cohorts share.")] = 0,
    slides: Annotated[
        bool, typer.Option("--slides", help="Paint slides instead of drawing embeddings.")
    ] = False,
    set_: Set = None,
) -> None:
    """Write a cohort with known truth: features or slides, RNA, labels, truth.json, momkd.yaml."""
    from momkd.workflows.simulate import simulate as run
    from momkd.workflows.simulate import tell_simulation

    report = run(
        scenario,
        output,
        cases=cases,
        seed=seed,
        world=world,
        set_=set_ or (),
        slides=slides,
    )
    typer.echo("\n".join(tell_simulation(report)))
