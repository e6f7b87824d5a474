"""``momkd init --from-...``: a momkd.yaml from a study that another tool was set up for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from momkd.data.conventions.clam import read_clam, read_split_rows
from momkd.data.conventions.patho_bench import (
    find_task_column,
    fold_columns,
    read_patho_bench,
    read_task,
)
from momkd.data.conventions.slideflow import read_slideflow
from momkd.data.conventions.stamp import read_stamp, read_stamp_config
from momkd.data.conventions.study import gather, write_slide_rows
from momkd.data.delimited import read_table
from momkd.workflows.console import say
from momkd.workflows.init import init, unwritten_if_refused


def init_from_stamp(
    config: Path | str,
    *,
    features: Sequence[Path | str] = (),
    target: str | None = None,
    output: Path | str = "momkd.yaml",
    force: bool = False,
    **options: Any,
) -> Path:
    """Import STAMP's ``config.yaml``: its two tables joined, its features, its splits if it ran.

    The join is written to ``clinical.csv`` beside the configuration (``<name>.clinical.csv`` where
    that is not ``momkd.yaml``). Values outside ``categories`` are unknown, as they are to STAMP.

    Parameters
    ----------
    features, target
        Instead of ``feature_dir`` and ``ground_truth_label``.
    options
        As :func:`momkd.workflows.init.init`.

    Raises
    ------
    ConfigError
        G08 a file exists, G15 a configuration that lacks what is needed; as ``init`` does.
    DataError
        As :func:`momkd.data.conventions.stamp.read_stamp` and ``init`` do.
    """
    stamp = read_stamp_config(Path(config))
    label = target if target is not None else stamp.label
    study = read_stamp(
        stamp.clini_table,
        stamp.slide_table,
        label=label,
        patient=stamp.patient,
        filename=stamp.filename,
        splits=stamp.splits,
    )
    path = Path(output)
    name = "clinical.csv" if path.stem == "momkd" else f"{path.stem}.clinical.csv"
    table = path.with_name(name)
    folds: dict[str, Any] = {} if stamp.n_splits is None else {"n": stamp.n_splits}
    if stamp.splits is not None:
        folds["file"] = stamp.splits
        _tell_two_sided()
    with unwritten_if_refused(table, force):
        write_slide_rows(table, study, "case_id", "slide_id")
        written = init(
            features=features or [stamp.feature_dir],
            clinical=table,
            target=study.label,
            folds=folds,
            output=path,
            force=force,
            **options,
        )
    n_cases = len({row.case_id for row in study.rows})
    n_files = sum(bool(row.slide) for row in study.rows)
    say(f"{table}: {n_cases} patients and {n_files} files of {Path(config).name} joined")
    return written


def init_from_clam(
    dataset: Path | str,
    splits: Path | str,
    *,
    features: Sequence[Path | str],
    target: str | None = None,
    **options: Any,
) -> Path:
    """Import CLAM's dataset csv and folder of splits; both are used where they lie.

    The same does for MCAT and SurvPath, whose metadata table names the label with ``target``.

    Raises
    ------
    ConfigError, DataError
        As ``init``; L07 a column is absent, K13 no splits.
    """
    if target is None:
        study = read_clam(Path(dataset), Path(splits))
        target, given = study.label, study.splits
    else:
        read_table(Path(dataset))
        given = gather(read_split_rows(Path(splits)))
    if not all(s.val for s in given):
        _tell_two_sided()
    return init(
        features=features,
        clinical=dataset,
        target=target,
        folds={"n": max(2, len(given)), "file": splits},
        **options,
    )


def init_from_patho_bench(
    tsv: Path | str,
    *,
    features: Sequence[Path | str],
    target: str | None = None,
    **options: Any,
) -> Path:
    """Import Patho-Bench's ``k=all.tsv`` (and ``config.yaml`` beside it), used where it lies.

    Raises
    ------
    ConfigError, DataError
        As ``init``; G15 the task column cannot be told, K13 a fold column with other words.
    """
    path = Path(tsv)
    task = target if target is not None else find_task_column(path)
    study = read_patho_bench(path, task=task)
    folds: dict[str, Any] = {}
    if fold_columns(read_table(path).columns):
        folds = {"n": max(2, len(study.splits)), "file": path}
        if not all(s.val for s in study.splits):
            _tell_two_sided()
    words = read_task(path).get("label_dict")
    if isinstance(words, dict):
        shown = ", ".join(f"{code} is {word}" for code, word in words.items())
        say(f"{path.name}: {study.label}: {shown}")
    return init(features=features, clinical=path, target=study.label, folds=folds, **options)


def init_from_slideflow(
    annotations: Path | str,
    *,
    features: Sequence[Path | str],
    target: str | None = None,
    **options: Any,
) -> Path:
    """Import slideflow's annotations; the outcome is ``category`` unless ``target`` names another.

    Raises
    ------
    ConfigError, DataError
        As ``init``; L07 a column is absent.
    """
    study = read_slideflow(Path(annotations), outcome=target or "category")
    return init(features=features, clinical=annotations, target=study.label, **options)


def _tell_two_sided() -> None:
    say(
        "its splits have no validation side: folds.val_fraction of each fold is drawn for it from "
        "the training cases"
    )
