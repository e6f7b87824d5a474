"""Slideflow (and PathBench-MIL): one annotations csv, ``patient, slide, dataset, <outcome>``."""

from pathlib import Path

from momkd.data.conventions.study import (
    StudyTables,
    read_rows,
    require_columns,
    write_slide_rows,
)
from momkd.data.delimited import read_table


def read_slideflow(annotations: Path, *, outcome: str = "category") -> StudyTables:
    """Read an annotations table; ``dataset`` and whatever else it has is kept.

    Raises
    ------
    DataError
        L07 a column is absent, O16 no table.
    """
    table = read_table(annotations)
    used = require_columns(table, patient=("patient",), slide=("slide",), outcome=(outcome,))
    return StudyTables(label=used["outcome"], rows=read_rows(table, used["patient"], used["slide"]))


def write_slideflow(study: StudyTables, folder: Path) -> list[Path]:
    """Write ``annotations.csv``; a case without a slide has no row there."""
    return [write_slide_rows(folder / "annotations.csv", study, "patient", "slide")]
