"""Sheets of Excel workbooks, as the text a person sees in them."""

import datetime
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from momkd.errors import DataError, MachineError

_MAGIC = b"PK\x03\x04"
_LARGEST_BYTES = 1 << 29
_CSV = "save the sheet as csv"


def is_workbook(path: Path) -> bool:
    """Say whether a file is a zip with the parts of an ``.xlsx`` workbook, whatever its name."""
    try:
        with path.open("rb") as stream:
            if stream.read(4) != _MAGIC:
                return False
        with zipfile.ZipFile(path) as parts:
            return "xl/workbook.xml" in parts.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def read_workbook(path: Path) -> tuple[tuple[str, ...], list[list[str]], list[int]]:
    """Read the one sheet of a workbook that holds anything.

    Cells become text: whole numbers without a decimal point, dates in ISO form, truth values as
    TRUE and FALSE. Rows and columns without any content are passed over.

    Returns
    -------
    tuple
        The names of the columns, the rows, and the row number in the sheet of each.

    Raises
    ------
    DataError
        O16 damaged, too large, several sheets with content, no table, cells without a column name,
        or formulas whose result was never stored.
    MachineError
        G14 openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError:
        remedy = f'pip install "momkd[excel]", or {_CSV}'
        raise MachineError.of("G14", str(path), "reading .xlsx needs openpyxl", remedy) from None
    _require_bounded(path)
    try:
        content = path.read_bytes()
        values = openpyxl.load_workbook(BytesIO(content), data_only=True, keep_links=False)
        formulas = openpyxl.load_workbook(BytesIO(content), data_only=False, keep_links=False)
    except Exception as error:  # noqa: BLE001 - a damaged workbook fails in many ways
        what = f"is a damaged workbook: {error}"
        raise DataError.of("O16", str(path), what, _CSV) from None
    filled = [s.title for s in values.worksheets if _has_content(s)]
    if len(filled) != 1:
        shown = f"{len(filled)} sheets with content ({', '.join(filled[:5])})" if filled else ""
        what = f"has {shown}, wanted one" if filled else "has no sheet with content"
        raise DataError.of("O16", str(path), what, _CSV)
    _require_results(path, values[filled[0]], formulas[filled[0]])
    return _table(path, values[filled[0]])


def _require_bounded(path: Path) -> None:
    with zipfile.ZipFile(path) as parts:
        n_bytes = sum(part.file_size for part in parts.infolist())
    if n_bytes > _LARGEST_BYTES:
        what = f"unpacks to {n_bytes >> 20} MiB, allowed {_LARGEST_BYTES >> 20}"
        raise DataError.of("O16", str(path), what, _CSV)


def _has_content(sheet: Any) -> bool:
    return any(_text(c) for row in sheet.iter_rows(values_only=True) for c in row)


def _require_results(path: Path, values: Any, formulas: Any) -> None:
    """Refuse formulas that were never computed: their cells would read as blank."""
    empty = [
        cell.coordinate
        for row in formulas.iter_rows()
        for cell in row
        if cell.data_type == "f" and values[cell.coordinate].value is None
    ]
    if empty:
        what = f"{len(empty)} formulas hold no result (first: {empty[0]})"
        raise DataError.of("O16", str(path), what, f"open and save it in Excel, or {_CSV}")


def _table(path: Path, sheet: Any) -> tuple[tuple[str, ...], list[list[str]], list[int]]:
    numbered = [
        (i, [_text(c) for c in row])
        for i, row in enumerate(sheet.iter_rows(min_row=1, values_only=True), start=1)
    ]
    (_, head), *body = [(i, row) for i, row in numbered if any(row)]
    kept = [i for i in range(len(head)) if head[i] or any(row[i] for _, row in body)]
    nameless = [i for i in kept if not head[i].strip()]
    if nameless[1:] or (nameless and nameless[0] != kept[0]):
        what = f"column {nameless[-1] + 1} has cells and no name in its first row"
        raise DataError.of("O16", str(path), what, "name it or empty it")
    if not body:
        raise DataError.of("O16", str(path), "holds a header and no row", "check the export")
    columns = tuple(head[i].strip() for i in kept)
    return columns, [[row[i] for i in kept] for _, row in body], [i for i, _ in body]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return str(value)
