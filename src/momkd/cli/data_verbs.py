"""Verbs over files and tables: what is there, and whether it can be used."""

from pathlib import Path
from typing import Annotated, Any

import typer

from momkd.cli.application import (
    Config,
    CoordsDir,
    MaxSkip,
    Mpp,
    PairedOnly,
    Set,
    SitePreserved,
    app,
    with_problems,
)
from momkd.errors import ConfigError, DataError

labels = typer.Typer(help="Labels by a written rule.", no_args_is_help=True)
app.add_typer(labels, name="labels")

_Files = tuple[Path, Path]


@app.command()
def init(
    features: Annotated[
        list[Path] | None, typer.Option(help="Folder of feature files; repeatable.")
    ] = None,
    clinical: Annotated[
        Path | None, typer.Option(help="Table with cases, slides and labels.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Label column, such as HER2.")] = None,
    rna: Annotated[Path | None, typer.Option(help="RNA: a table, or a folder of files.")] = None,
    positive: Annotated[list[str] | None, typer.Option(help="Positive value; repeatable.")] = None,
    negative: Annotated[list[str] | None, typer.Option(help="Negative value; repeatable.")] = None,
    rule: Annotated[
        str, typer.Option(help="For HER2, PR, ER of a GDC table; see momkd labels tcga --help.")
    ] = "asco-cap",
    from_stamp: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="STAMP's config.yaml.")
    ] = None,
    from_clam: Annotated[
        _Files | None, typer.Option(metavar="DATASET SPLITS", help="CLAM's csv and split folder.")
    ] = None,
    from_patho_bench: Annotated[
        Path | None, typer.Option(metavar="TSV", help="Patho-Bench's k=all.tsv.")
    ] = None,
    from_slideflow: Annotated[
        Path | None, typer.Option(metavar="ANNOTATIONS", help="Slideflow's annotations csv.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("momkd.yaml"),
    force: Annotated[bool, typer.Option(help="Overwrite the file.")] = False,
) -> None:
    """Write a short momkd.yaml from your files, or from another tool's set-up."""
    from momkd.workflows import import_tables
    from momkd.workflows.init import init as run

    given = {
        "--clinical": clinical,
        "--from-stamp": from_stamp,
        "--from-clam": from_clam,
        "--from-patho-bench": from_patho_bench,
        "--from-slideflow": from_slideflow,
    }
    sources = [name for name, value in given.items() if value is not None]
    if len(sources) != 1:
        what = f"got {' and '.join(sources) or 'none of them'}, wanted one of {', '.join(given)}"
        raise ConfigError.of("G07", "command line", what, "momkd init --help")
    if not features and from_stamp is None:
        raise ConfigError.of("G07", "command line", "no --features", "momkd init --help")
    if target is None and clinical is not None:
        raise ConfigError.of("G07", "command line", "no --target", "momkd init --help")
    common: dict[str, Any] = {
        "rna": rna,
        "positive": positive or (),
        "negative": negative or (),
        "rule": rule,
        "output": output,
        "force": force,
    }
    common |= {"features": features or (), "target": target}
    if from_stamp is not None:
        path = import_tables.init_from_stamp(from_stamp, **common)
    elif from_clam is not None:
        path = import_tables.init_from_clam(from_clam[0], from_clam[1], **common)
    elif from_patho_bench is not None:
        path = import_tables.init_from_patho_bench(from_patho_bench, **common)
    elif from_slideflow is not None:
        path = import_tables.init_from_slideflow(from_slideflow, **common)
    else:
        path = run(clinical=str(clinical), **common)
    typer.echo(f"wrote {path}; next: momkd check -c {path}")


@labels.command()
def tcga(
    clinical: Annotated[Path, typer.Argument(help="Clinical table of the GDC or cBioPortal.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")] = Path(
        "labels.csv"
    ),
    rule: Annotated[
        str,
        typer.Option(help="asco-cap, ihc-only, ihc-then-fish, fish-then-ihc or rest-negative."),
    ] = "asco-cap",
) -> None:
    """Give HER2, PR and ER status of every case, with the reason; unknown stays unknown."""
    from momkd.workflows.labels import label_tcga
    from momkd.workflows.tables import show_labels

    show_labels(label_tcga(clinical, output, rule=rule))


@app.command()
def check(
    config: Config,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for cohort.csv, dropped.csv.")
    ] = None,
    set_: Set = None,
    max_skip: MaxSkip = 0.0,
    workers: Annotated[int, typer.Option(help="Reader processes.")] = 1,
    site_preserved: SitePreserved = False,
    paired_only: PairedOnly = False,
) -> None:
    """Read every file and table, show all faults at once; train nothing."""
    from momkd.workflows.check import check as run
    from momkd.workflows.tables import show_check

    show_check(
        with_problems(
            output or Path(),
            lambda: run(
                config,
                output=output,
                set_=set_ or (),
                max_skip=max_skip,
                workers=workers,
                site_preserved=site_preserved,
                paired_only=paired_only,
            ),
        )
    )


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(help="Feature files, RNA tables or folders.")],
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
