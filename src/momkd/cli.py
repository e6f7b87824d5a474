"""The command line. Heavy imports stand inside the commands, so that ``--help`` is instant."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from momkd.errors import ConfigError, DataError, MomkdError

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
    str | None, typer.Option("--model", help="momkd, momkd:code,abmil or all; default: config.")
]
Mpp = Annotated[float | None, typer.Option(help="um per level-0 pixel, for slides without.")]
MppFromPower = Annotated[
    bool, typer.Option("--mpp-from-power", help="Estimate it from the objective; recorded.")
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
        _with_problems(
            output or Path(),
            lambda: run(config, output=output, set_=set_ or (), max_skip=max_skip, workers=workers),
        )
    )


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help="Feature files or RNA tables.")],
) -> None:
    """Say which convention each file follows, and why."""
    from momkd.workflows.inspect import inspect as run
    from momkd.workflows.tables import show_files

    inspection = run(files)
    show_files(inspection)
    if inspection.problems:
        raise DataError(*inspection.problems)


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
) -> None:
    """Cross-validate; an interrupted run goes on with the same command."""
    from momkd.workflows.crossval import crossval as run
    from momkd.workflows.tables import show_metrics

    folder = _with_problems(
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
        ),
    )
    show_metrics(folder)


@app.command()
def train(
    config: Config,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the predictor.")],
    model: ModelName = None,
    seed: Annotated[int, typer.Option()] = 0,
    set_: Set = None,
    max_skip: MaxSkip = 0.0,
) -> None:
    """Train one final predictor on everything."""
    from momkd.workflows.train import train as run

    path = _with_problems(
        output,
        lambda: run(config, output, model=model, seed=seed, set_=set_ or (), max_skip=max_skip),
    )
    typer.echo(f"predictor: {path}")


@app.command()
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Slides, feature files, folders of these.")],
    model: Annotated[Path, typer.Option("--model", help="Run or predictor folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")],
    only: Annotated[str | None, typer.Option(help="One model of the run.")] = None,
    cases: Annotated[Path | None, typer.Option(help="CSV: slide_id, case_id.")] = None,
    attention: Annotated[Path | None, typer.Option(help="Folder for attention scores.")] = None,
    feature_key: Annotated[str | None, typer.Option(help="Dataset of the embeddings.")] = None,
    drop_nonfinite: Annotated[
        bool, typer.Option("--drop-nonfinite", help="Leave out rows with NaN or infinite values.")
    ] = False,
    heatmaps: Annotated[Path | None, typer.Option(help="Folder for PNG and GeoJSON.")] = None,
    mpp: Mpp = None,
    mpp_from_power: MppFromPower = False,
    weights: Annotated[Path | None, typer.Option(help="File of the encoder's weights.")] = None,
    device: Annotated[str, typer.Option(help="Where slides are embedded.")] = "cpu",
    max_skip: MaxSkip = 0.05,
    workers: Annotated[int, typer.Option(help="Reader processes.")] = 1,
) -> None:
    """Predict from slides alone: no RNA, no labels."""
    from momkd.slides.reader import SlideRules
    from momkd.workflows.predict import predict as run

    table = run(
        model,
        inputs,
        output,
        only=only,
        cases=cases,
        attention=attention,
        feature_key=feature_key,
        drop_nonfinite=drop_nonfinite,
        slides=SlideRules(mpp=mpp, mpp_from_power=mpp_from_power),
        weights=weights,
        device=device,
        heatmaps=heatmaps,
        max_skip=max_skip,
        workers=workers,
    )
    n_slides, n_models = table["slide_id"].nunique(), table["model"].nunique()
    typer.echo(f"wrote {output}: {n_slides} slides, {n_models} model(s)")


@app.command()
def extract(
    slides: Annotated[list[Path], typer.Argument(help="Slides, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of feature files.")],
    encoder: Annotated[str, typer.Option(help="momkd extract --help lists them.")] = (
        "efficientnet-lite0"
    ),
    weights: Annotated[Path | None, typer.Option(help="File of the encoder's weights.")] = None,
    tile_px: Annotated[int, typer.Option(help="Side of a tile in pixels of its view.")] = 896,
    tile_um: Annotated[float | None, typer.Option(help="The same in um, instead.")] = None,
    view_mpp: Annotated[float, typer.Option(help="um per pixel of the view; 0.5 is 20x.")] = 0.5,
    min_tissue: Annotated[float, typer.Option(help="Least share of tissue in a tile.")] = 0.1,
    tissue: Annotated[
        Path | None, typer.Option(help="Mask: GeoJSON, picture, or a folder of them.")
    ] = None,
    mpp: Mpp = None,
    mpp_from_power: MppFromPower = False,
    scene: Annotated[int | None, typer.Option(help="Of a file with several, from 0.")] = None,
    any_stain: Annotated[bool, typer.Option("--any-stain", help="Let grey slides pass.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    bf16: Annotated[bool, typer.Option("--bf16", help="Mixed precision.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles a step.")] = 32,
    max_skip: MaxSkip = 0.0,
) -> None:
    """Cut slides into tiles on tissue and embed them: one feature file a slide."""
    from momkd.config import parse_options
    from momkd.slides.reader import SlideRules
    from momkd.slides.tiling import TilingOptions
    from momkd.workflows.extract import extract as run

    side_px = tile_px if tile_um is None else round(tile_um / view_mpp)
    cut = {"tile_px": side_px, "mpp": view_mpp, "min_tissue": min_tissue}
    result = run(
        slides,
        output,
        encoder=encoder,
        weights=weights,
        tiling=parse_options(TilingOptions, cut, "command line"),
        rules=SlideRules(
            mpp=mpp,
            mpp_from_power=mpp_from_power,
            scene=scene,
            stain="any" if any_stain else "he",
        ),
        tissue=tissue,
        device=device,
        precision="bfloat16" if bf16 else "float32",
        batch_size=batch_size,
        max_skip=max_skip,
    )
    typer.echo(f"wrote {output}: {len(result.files)} slides, {result.n_made} made now")


@app.command()
def heatmap(
    inputs: Annotated[list[Path], typer.Argument(help="What predict --attention stored.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of pictures.")],
    thumbnails: Annotated[Path | None, typer.Option(help="Folder of <slide>.jpg.")] = None,
) -> None:
    """Draw stored attention over slides, as PNG and QuPath GeoJSON; nothing is recomputed."""
    from momkd.workflows.heatmap import heatmap as run

    pictures = run(inputs, output, thumbnails=thumbnails)
    typer.echo(f"wrote {output}: {len(pictures)} pictures")


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
def doctor() -> None:
    """Examine this machine, with the exact line that mends what it lacks."""
    from momkd.workflows.doctor import doctor as run

    findings = run()
    width = max(len(f.what) for f in findings)
    for f in findings:
        mend = f"  ->  {f.remedy}" if f.remedy else ""
        typer.echo(f"{'ok' if f.well else '--'}  {f.what:<{width}}  {f.state}{mend}")


_state: dict[str, bool] = {"debug": False}


def _with_problems(folder: Path, work: Callable[[], Any]) -> Any:
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


if __name__ == "__main__":
    main()
