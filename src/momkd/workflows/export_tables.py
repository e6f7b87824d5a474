"""``momkd export tables``: a cohort and its folds in the tables of another tool."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from momkd.data.cohort import cohort_digest
from momkd.data.conventions.clam import write_clam
from momkd.data.conventions.patho_bench import write_patho_bench
from momkd.data.conventions.slideflow import write_slideflow
from momkd.data.conventions.stamp import write_stamp
from momkd.data.conventions.study import GivenSplit, StudyRow, StudyTables
from momkd.data.conventions.trident import write_trident_list
from momkd.data.folds import write_folds
from momkd.data.label_notes import target_notes
from momkd.data.split_table import SplitTable
from momkd.errors import ConfigError
from momkd.storage import write_text
from momkd.types import Cohort, Fold
from momkd.workflows.audit import audit_cohort, require_few_skipped
from momkd.workflows.console import count_files
from momkd.workflows.protocol import make_protocol
from momkd.workflows.settings import Settings, load_settings

CONVENTIONS = ("stamp", "clam", "patho-bench", "slideflow", "trident")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """The files written, and what they cannot hold."""

    folder: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def export_tables(
    config: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    convention: str,
    set_: Sequence[str] = (),
    max_skip: float = 0.0,
    workers: int = 1,
) -> ExportReport:
    """Write the cohort of a configuration, as ``check`` sees it, for another tool.

    Beside the tables stand ``cohort.csv``, ``dropped.csv`` and ``folds.csv`` of our own form: what
    the convention cannot say (cases with RNA only, a validation side) is not lost.

    Parameters
    ----------
    convention
        One of :data:`CONVENTIONS`.

    Raises
    ------
    ConfigError
        G16 no such convention.
    MomkdError
        As ``check``.
    """
    _require_known(convention, CONVENTIONS)
    files = [Path(config)] if isinstance(config, str | Path) else [Path(c) for c in config]
    settings = load_settings(files, set_)
    with count_files("examining feature files") as counter:
        audited = audit_cohort(
            settings.data,
            manifest=files[0].with_suffix(".features.csv"),
            n_workers=workers,
            on_start=counter.start,
            on_file=counter.advance,
        )
    audit, folder = audited.audit, Path(output)
    require_few_skipped(audit.n_skipped, audit.n_listed, max_skip)
    cohort = audit.cohort
    folds = make_protocol(cohort, settings.folds).folds
    written = _WRITERS[convention](cohort, settings, _given(cohort, settings, folds), folder)
    audit.write(folder)
    write_folds(folder / "folds.csv", folds, cohort_digest(cohort))
    notes = [*_not_said(cohort, convention), *target_notes(settings.data.target)]
    written += [folder / "cohort.csv", folder / "dropped.csv", folder / "folds.csv"]
    if notes:
        write_text(folder / "NOTES.txt", "\n".join(notes) + "\n")
    return ExportReport(folder=folder, files=tuple(written), notes=tuple(notes))


def _require_known(convention: str, known: Sequence[str]) -> None:
    if convention not in known:
        what = f"got {convention!r}, wanted one of {', '.join(known)}"
        raise ConfigError.of("G16", "--as", what, "see docs/formats.md")


def _given(cohort: Cohort, settings: Settings, folds: Sequence[Fold]) -> tuple[GivenSplit, ...]:
    """Give the folds by case, as far as they have slides: other tools score nothing else.

    Those of a file are as they stand there, without a drawn validation side.
    """
    if settings.folds.file is not None:
        return SplitTable(settings.folds.file, cohort).given()
    slides = {c.case_id for c in cohort.cases if c.slide_ids}
    train = [tuple(c for c in f.train if c in slides) for f in folds]
    return tuple(
        GivenSplit(index=f.index, train=t, val=f.val, test=f.test)
        for f, t in zip(folds, train, strict=True)
    )


def _by_slide(cohort: Cohort, splits: Sequence[GivenSplit]) -> tuple[GivenSplit, ...]:
    slides = {c.case_id: c.slide_ids for c in cohort.cases}

    def listed(case_ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(s for c in case_ids for s in slides[c])

    return tuple(
        GivenSplit(index=s.index, train=listed(s.train), val=listed(s.val), test=listed(s.test))
        for s in splits
    )


def _study(
    cohort: Cohort,
    splits: Sequence[GivenSplit],
    *,
    name_slide: Callable[[str], str] = str,
    with_bare: bool = False,
) -> StudyTables:
    """Bring a cohort into the form of tables, with ``site`` where any case has one."""
    has_sites = any(c.site for c in cohort.cases)
    rows = []
    for case in sorted(cohort.cases, key=lambda c: c.case_id):
        values = {cohort.task: cohort.class_names[case.label]}
        if has_sites:
            values["site"] = case.site or ""
        rows += [
            StudyRow(case_id=case.case_id, slide=name_slide(s), values=values)
            for s in case.slide_ids
        ]
        if with_bare and not case.slide_ids:
            rows.append(StudyRow(case_id=case.case_id, values=values))
    return StudyTables(label=cohort.task, rows=tuple(rows), splits=tuple(splits))


def _as_stamp(
    cohort: Cohort, settings: Settings, splits: Sequence[GivenSplit], folder: Path
) -> list[Path]:
    root = _common_root(settings.data.features)
    paths = {s: os.path.relpath(f.path.resolve(), root) for s, f in cohort.slides.items()}
    study = _study(cohort, splits, name_slide=lambda s: paths[s], with_bare=True)
    return write_stamp(study, folder, feature_dir=os.path.relpath(root, folder.resolve()))


def _as_clam(
    cohort: Cohort, settings: Settings, splits: Sequence[GivenSplit], folder: Path
) -> list[Path]:
    return write_clam(_study(cohort, _by_slide(cohort, splits)), folder)


def _as_patho_bench(
    cohort: Cohort, settings: Settings, splits: Sequence[GivenSplit], folder: Path
) -> list[Path]:
    study = _study(cohort, _by_slide(cohort, splits))
    return write_patho_bench(study, folder, class_names=cohort.class_names)


def _as_slideflow(
    cohort: Cohort, settings: Settings, splits: Sequence[GivenSplit], folder: Path
) -> list[Path]:
    return write_slideflow(_study(cohort, ()), folder)


def _as_trident(
    cohort: Cohort, settings: Settings, splits: Sequence[GivenSplit], folder: Path
) -> list[Path]:
    return [write_trident_list(folder / "wsi.csv", [f"{s}.svs" for s in sorted(cohort.slides)])]


_Writer = Callable[[Cohort, Settings, Sequence[GivenSplit], Path], list[Path]]
_WRITERS: Mapping[str, _Writer] = {
    "stamp": _as_stamp,
    "clam": _as_clam,
    "patho-bench": _as_patho_bench,
    "slideflow": _as_slideflow,
    "trident": _as_trident,
}


def _common_root(roots: Sequence[Path]) -> Path:
    folders = [r.resolve() if r.is_dir() else r.resolve().parent for r in roots]
    return Path(os.path.commonpath(folders))


def _not_said(cohort: Cohort, convention: str) -> list[str]:
    bare = sum(not c.slide_ids for c in cohort.cases)
    notes = []
    if bare and convention != "stamp":
        notes.append(f"{bare} cases have RNA and no slide: {convention} has no row for them")
    if convention == "stamp":
        notes.append("splits.json has two sides: our validation cases stand among its training")
    if convention == "trident":
        notes.append("names in wsi.csv end in .svs: change them where the slides are others")
    if convention in ("slideflow", "trident"):
        notes.append(f"{convention} has no table of splits: they stand in folds.csv")
    return notes
