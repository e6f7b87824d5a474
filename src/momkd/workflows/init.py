"""``momkd init``: a short momkd.yaml from folders and tables, formats recognised."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from momkd.data.clinical import list_values
from momkd.data.delimited import find_column, read_table
from momkd.data.features import find_feature_files
from momkd.data.receptor_table import has_receptors
from momkd.data.rna.cbioportal import CBioPortal
from momkd.data.rna.forms import recognise_rna
from momkd.errors import ConfigError, DataError, MomkdError
from momkd.storage import write_text
from momkd.workflows.console import say
from momkd.workflows.labels import DEFAULT_RULE, label_tcga

_POSITIVE = ("positive", "pos", "1", "true", "yes", "high", "mutated", "mut")
_NEGATIVE = ("negative", "neg", "0", "false", "no", "low", "wildtype", "wt")


def init(
    *,
    features: Sequence[Path | str],
    clinical: Path | str,
    target: str,
    rna: Path | str | None = None,
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    rule: str = DEFAULT_RULE,
    folds: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    output: Path | str = "momkd.yaml",
    force: bool = False,
) -> Path:
    """Write a configuration that names the data, the target and what its values mean.

    Values of the target column that are neither positive nor negative are listed under
    ``exclude``: they are unknown, never negative. HER2, PR or ER of a clinical table of the GDC or
    cBioPortal that has no such column are made by a receptor rule and written to
    ``<name>.labels.csv`` beside the configuration (``labels.csv`` beside ``momkd.yaml``).

    Parameters
    ----------
    rule
        For receptors, see :func:`momkd.workflows.labels.label_tcga`.
    folds, columns
        Blocks ``folds`` and ``data.columns``; the path ``folds["file"]`` is written relative to
        the configuration, as all are.

    Raises
    ------
    ConfigError
        G08 a file exists; G09 the values of the target are not self-evident; G13 no such rule.
    DataError
        A folder without feature files (P09), a table that cannot be read, L07 no such column.
    """
    path = Path(output)
    require_new(path, force)
    if rna is not None and not Path(rna).exists():
        raise DataError.of("O25", str(rna), "no such file", "check --rna")
    form = None if rna is None else recognise_rna(Path(rna))
    roots = [Path(f) for f in features]
    found = find_feature_files(roots)
    if found.problems:
        raise DataError(*found.problems)
    if not found.files:
        where = ", ".join(str(r) for r in roots)
        what = "holds no feature file (.h5, .pt, .npy, .zarr, .pack)"
        raise DataError.of("P09", where, what, "check --features")
    for note in (*found.notes, *(f"left out: {p.line()}" for p in found.skipped)):
        say(note)
    ruled = _needs_rule(Path(clinical), target)
    table = _labels_path(path) if ruled else Path(clinical)
    with unwritten_if_refused(table if ruled else None, force):
        if ruled:
            target = target.strip().upper()
            label_tcga(clinical, table, rule=rule)
            say(f"{table}: {target} by the rule {rule} (momkd labels tcga shows what it did)")
        column, counts = list_values(table, target)
        yes, no = _sides(column, counts, positive, negative)
    exclude = [v for v in counts if v not in (*yes, *no)]
    folder = path.resolve().parent
    data: dict[str, Any] = {
        "features": [_relative(r, folder) for r in roots],
        "clinical": _relative(table, folder),
    }
    if len(roots) == 1:
        data["features"] = data["features"][0]
    if rna is not None and form is not None:
        data["rna"] = _relative(Path(rna), folder)
        say(f"{rna}: {form.form.name}, {form.why}")
        # studies of cBioPortal do repeat symbols: the rule stands in the file, to be changed
        data |= {"duplicate_genes": "mean"} if isinstance(form.form, CBioPortal) else {}
    data["target"] = {"column": column, "positive": _one(yes), "negative": _one(no)}
    if exclude:
        data["target"]["exclude"] = exclude
    if columns:
        data["columns"] = dict(columns)
    content = {"data": data}
    if folds:
        content["folds"] = {
            k: _relative(Path(v), folder) if k == "file" else v for k, v in folds.items()
        }
    content["model"] = {"name": "momkd" if rna is not None else "abmil"}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_text(
        path, f"# What is not written here has its default; see docs/configuration.md.\n{text}"
    )
    shown = ", ".join(f"{v} ({n})" for v, n in counts.items())
    say(f"{path}: {len(found.files)} feature files, target {column}: {shown}")
    return path


def require_new(path: Path, force: bool) -> None:
    """Refuse to overwrite a file (G08), unless told to."""
    if path.exists() and not force:
        raise ConfigError.of("G08", str(path), "exists already", "pass --force or another -o")


@contextmanager
def unwritten_if_refused(path: Path | None, force: bool) -> Iterator[None]:
    """Take a table back that was newly written on the way to a refusal."""
    if path is None:
        yield
        return
    require_new(path, force)
    was_there = path.exists()
    try:
        yield
    except MomkdError:
        if not was_there:
            path.unlink(missing_ok=True)
        raise


def _needs_rule(clinical: Path, target: str) -> bool:
    """Say whether the target is a receptor that a rule must find: no column, but measurements."""
    columns = read_table(clinical).columns
    there = find_column(columns, (target,)) is not None
    return not there and target.strip().upper() in has_receptors(columns)


def _labels_path(config: Path) -> Path:
    return config.with_name("labels.csv" if config.stem == "momkd" else f"{config.stem}.labels.csv")


def _sides(
    column: str, counts: dict[str, int], positive: Sequence[str], negative: Sequence[str]
) -> tuple[list[str], list[str]]:
    yes = list(positive) or [v for v in counts if v.casefold() in _POSITIVE]
    no = list(negative) or [v for v in counts if v.casefold() in _NEGATIVE]
    if not yes or not no:
        seen = ", ".join(f"{v} ({n})" for v, n in list(counts.items())[:12])
        what = f"cannot tell which values are positive and which negative: {seen}"
        raise ConfigError.of("G09", column, what, "pass --positive VALUE and --negative VALUE")
    return yes, no


def _one(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder)
