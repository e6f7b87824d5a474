"""The one way text tables are read: everything as text, nothing guessed to be missing."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from momkd.data.excel import is_workbook, read_workbook
from momkd.data.text_lines import TextLines
from momkd.errors import DataError

BLANK = frozenset({"", "na", "n/a", "nan", "none", "null", "."})
"""Cells that mean "nothing stated", trimmed and case-folded."""

CASE_COLUMNS = (
    # the GDC's patient_id is the participant's part of the barcode only
    *("case_id", "case", "bcr_patient_barcode", "patient_id", "patient", "submitter_id"),
    *("case_submitter_id", "sample", "sample_id"),
)
SLIDE_COLUMNS = ("slide_id", "slide", "filename", "image_id", "wsi", "slide_name")
SITE_COLUMNS = ("site", "tissue_source_site", "tss", "center", "centre", "institution", "hospital")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTable:
    """A text table behind its header: the columns, and the lines of its rows, not yet parsed."""

    path: Path
    columns: tuple[str, ...]
    delimiter: str
    lines: TextLines
    header_line: int

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Parse the rows that are left, each with its line in the file.

        Raises
        ------
        DataError
            O16 a row that cannot be parsed or is of another length.
        """
        return _rows(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRows:
    """The columns of a table and its rows, each with its line in the file; read once, in order."""

    path: Path
    columns: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table as text; ``lines[i]`` is where ``rows[i]`` begins in the file, the header on 1."""

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """Give a column, trimmed."""
        place = self.columns.index(name)
        return [row[place].strip() for row in self.rows]


def read_table(path: Path) -> TextTable:
    """Read a whole table, of text or the sheet of an Excel workbook.

    Raises as :func:`scan_table` and :func:`momkd.data.excel.read_workbook` do.
    """
    if is_workbook(path):
        columns, cells, numbers = read_workbook(path)
        return TextTable(path=path, columns=columns, rows=cells, lines=numbers)
    table = scan_table(path)
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, row in table.rows:
        lines.append(line)
        rows.append(row)
    return TextTable(path=path, columns=table.columns, rows=rows, lines=lines)


def scan_table(path: Path) -> TextRows:
    """Open a csv, tsv or txt table, gzipped or not, in UTF-8 or UTF-16, with or without BOM.

    Rows without any content are passed over; comment lines (``#``) above the header too.

    Raises
    ------
    DataError
        O16 it cannot be read, is empty, or has rows of another length; the latter while iterating.
    """
    table = open_table(path)
    return TextRows(path=path, columns=table.columns, rows=_some(path, table.rows()))


def open_table(path: Path) -> OpenTable:
    """Read the header of a table; raises as :func:`scan_table` does."""
    lines = TextLines(path)
    head = _header_line(lines)
    delimiter = max("\t,;", key=lambda d: len(_cells(head, d)))
    if len(_cells(head, delimiter)) < 2:
        what = "is no table: its first line has no comma, tab or semicolon"
        raise DataError.of("O16", str(path), what, "give a csv or tsv")
    columns = tuple(c.strip() for c in _cells(head, delimiter))
    return OpenTable(
        path=path, columns=columns, delimiter=delimiter, lines=lines, header_line=lines.n_read
    )


def is_blank(cell: str) -> bool:
    """Say whether a cell states nothing."""
    return cell.strip().casefold() in BLANK


def find_column(columns: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    """Give the first column called one of ``names``, whatever its case and separators."""
    plain = {plain_name(c): c for c in reversed(columns)}
    return next((plain[plain_name(n)] for n in names if plain_name(n) in plain), None)


def plain_name(name: str) -> str:
    """Bring spellings of one column name to one form: ``Case ID`` and ``case_id`` -> ``caseid``."""
    return "".join(c for c in name.casefold() if c.isalnum())


def _header_line(lines: TextLines) -> str:
    """Leave the lines behind the header; a lone ``#case_id,...`` is a header, not a comment."""
    above: list[str] = []
    line = next(lines, "")
    while line and (line.startswith("#") or not line.strip()):
        above.append(line)
        line = next(lines, "")
    comments = [i for i, text in enumerate(above) if text.startswith("#")]
    if len(comments) == 1 and any(d in above[comments[0]] for d in "\t,;"):
        after = [*above[comments[0] + 1 :], line]
        lines.put_back(after if line else after[:-1])
        line = above[comments[0]].removeprefix("#")
    return line


def _cells(line: str, delimiter: str) -> list[str]:
    # Python 3.10's reader fails at NUL, which damaged UTF-16 is full of
    text = line.rstrip("\r\n").replace("\0", "\ufffd")
    return next(csv.reader([text], delimiter=delimiter), [])


def _rows(table: OpenTable) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(table.lines, delimiter=table.delimiter)
    where, n_columns = str(table.path), len(table.columns)
    while True:
        line = table.lines.n_read + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            what = f"line {line} cannot be parsed: {error}"
            raise DataError.of("O16", where, what, "check quotes") from None
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != n_columns:
            what = f"line {line} has {len(row)} cells, the header {n_columns}"
            remedy = "check quotes and decimal commas"
            if line == table.header_line + 1 and len(row) == n_columns + 1:
                remedy = "name the first column too (write.table of R: col.names=NA)"
            raise DataError.of("O16", where, what, remedy)
        yield line, row


def _some(path: Path, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    first = next(rows, None)
    if first is None:
        raise DataError.of("O16", str(path), "holds a header and no row", "check the export")
    yield first
    yield from rows
