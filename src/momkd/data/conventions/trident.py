"""TRIDENT: a list of slides, ``wsi`` (path with extension) and optionally ``mpp``."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from momkd.data.barcodes import case_of
from momkd.data.conventions.study import StudyRow, StudyTables, require_columns, write_table
from momkd.data.delimited import TextTable, read_table
from momkd.data.layouts.material import slide_id_of
from momkd.errors import DataError, Problem, Problems


def read_trident_list(path: Path) -> StudyTables:
    """Read a list of slides; the case is that of a TCGA barcode, or the slide itself.

    Raises
    ------
    DataError
        L07 no column ``wsi``, O16 no table; all at once L05 a row without slide, F18 two slides of
        one name, S01 an mpp that is no positive number.
    """
    table = _read(path)
    used = require_columns(table, wsi=("wsi",))
    rest = [c for c in table.columns if c != used["wsi"]]
    cells = {c: table.column(c) for c in rest}
    problems = Problems()
    rows: list[StudyRow] = []
    seen: dict[str, str] = {}
    for i, slide in enumerate(table.column(used["wsi"])):
        slide_id = slide_id_of(Path(slide))
        if not slide:
            _tell(problems, "L05", table, i, "a row without slide")
        elif seen.setdefault(slide_id, slide) != slide:
            _tell(problems, "F18", table, i, f"{slide} and {seen[slide_id]} have one name")
        values = {c: cells[c][i] for c in rest}
        mpp = next((v for c, v in values.items() if c.casefold() == "mpp"), "")
        if mpp and not _is_positive(mpp):
            _tell(problems, "S01", table, i, f"got mpp {mpp!r}, wanted um per pixel")
        rows.append(StudyRow(case_id=case_of(slide_id), slide=slide, values=values))
    problems.refuse(DataError)
    return StudyTables(label="", rows=tuple(rows))


def write_trident_list(
    path: Path, slides: Iterable[str], mpp: Mapping[str, float] | None = None
) -> Path:
    """Write a list of slides, with their mpp where it is known."""
    known = mpp or {}
    header = ["wsi", "mpp"] if known else ["wsi"]
    rows = [[s, f"{known[s]:g}" if s in known else ""][: len(header)] for s in slides]
    return write_table(path, header, rows)


def _read(path: Path) -> TextTable:
    """Read the list; with one column it has no delimiter, and is no table to anybody else."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return read_table(path)
    if not lines or any(d in lines[0] for d in ",;\t"):
        return read_table(path)
    filled = [(i, line.strip().strip('"')) for i, line in enumerate(lines, start=1) if line.strip()]
    (_, name), *rest = filled
    return TextTable(
        path=path, columns=(name,), rows=[[cell] for _, cell in rest], lines=[i for i, _ in rest]
    )


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def _tell(problems: Problems, code: str, table: TextTable, i: int, what: str) -> None:
    remedy, row = "mend the list", table.lines[i]
    problems.add(Problem(code=code, where=str(table.path), what=what, remedy=remedy, row=row))
