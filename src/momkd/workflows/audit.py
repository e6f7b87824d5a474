"""The door of a cohort: every feature file, table row and label, all faults at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from momkd.data.cohort import Audit, DataOptions, load_cohort
from momkd.data.features import (
    Examination,
    examine_files,
    find_feature_files,
    read_manifest,
    write_manifest,
)
from momkd.data.reading_rules import read_rules
from momkd.errors import DataError, IntegrityError, Problem, TooManyDroppedError
from momkd.storage import spreadsheet, write_text
from momkd.workflows.console import say

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedCohort:
    """A cohort whose every file was read once, and what was said on the way."""

    audit: Audit
    notes: tuple[str, ...]


def audit_cohort(
    options: DataOptions,
    *,
    manifest: Path | None = None,
    n_workers: int = 1,
    on_start: Callable[[int], None] | None = None,
    on_file: Callable[[], None] | None = None,
) -> AuditedCohort:
    """Examine every feature file, join it with the tables, and refuse with all faults at once.

    Parameters
    ----------
    manifest
        Digests of an earlier check; a file that changed since is refused (F26). Written when it
        does not exist yet.

    Raises
    ------
    IntegrityError
        A file refused for safety (exit 5); the other faults are listed with it.
    DataError
        Any other fault of a file or table.
    """
    found = find_feature_files(options.features)
    problems = list(found.problems)
    rules = read_rules(options)
    if on_start is not None:
        on_start(len(found.files))
    known = read_manifest(manifest) if manifest is not None and manifest.exists() else None
    examined = examine_files(
        found.files,
        rules=rules,
        n_workers=n_workers,
        manifest=known,
        on_done=on_file,
    )
    problems += examined.problems
    examined.skipped += found.skipped
    for problem in examined.skipped[:_SHOWN]:
        say(f"left out: {problem.line()}")
    audit, table_problems = _join(options, examined)
    _refuse(examined.refused, problems + table_problems)
    if audit is None:
        raise TypeError("load_cohort neither refused nor answered")
    if manifest is not None and known is None:
        write_manifest(manifest, list(examined.slides.values()))
    return AuditedCohort(audit=audit, notes=(*found.notes, *examined.notes, *audit.notes))


def require_few_skipped(n_skipped: int, n_listed: int, max_skip: float) -> None:
    """Answer work that is done, but left out more slides than allowed.

    Raises
    ------
    TooManyDroppedError
        S20 more than ``max_skip`` of the listed slides were skipped at their door.
    """
    if n_skipped > max_skip * n_listed:
        what = f"{n_skipped} of {n_listed} slides were skipped, allowed {max_skip:.0%}"
        remedy = "see dropped.csv; mend them or raise --max-skip"
        raise TooManyDroppedError.of("S20", "slides", what, remedy)


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Write ``problems.csv``: code, file, row, column, value, what, remedy."""
    columns = ("code", "where", "row", "column", "value", "what", "remedy")
    rows = [{name: getattr(p, name) for name in columns} for p in problems]
    write_text(path, spreadsheet(rows, columns))


def _join(options: DataOptions, examined: Examination) -> tuple[Audit | None, list[Problem]]:
    try:
        return load_cohort(options, examined.slides, examined.skipped), []
    except DataError as error:
        return None, list(error.problems)


def _refuse(unsafe: Sequence[Problem], problems: Sequence[Problem]) -> None:
    if unsafe:
        raise IntegrityError(*unsafe, *problems)
    if problems:
        raise DataError(*problems)
