"""The one way text tables are read: everything as text, nothing guessed to be missing."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from momkd.data.excel import is_workbook, read_workbook
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

_UTF16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_NOT_TEXT = {b"PK\x03\x04": "an Excel or zip file", b"\xd0\xcf\x11\xe0": "an old Excel file"}


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
    stream = io.StringIO(_decode(path, _content(path)), newline="")
    head, n_above = _header_line(stream)
    delimiter = max("\t,;", key=lambda d: len(_cells(head, d)))
    if len(_cells(head, delimiter)) < 2:
        what = "is no table: its first line has no comma, tab or semicolon"
        raise DataError.of("O16", str(path), what, "give a csv or tsv")
    columns = tuple(c.strip() for c in _cells(head, delimiter))
    rows = _rows(path, columns, stream, delimiter, n_above + 1)
    return TextRows(path=path, columns=columns, rows=rows)


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


def _header_line(stream: io.StringIO) -> tuple[str, int]:
    """Leave the stream behind the header; a lone ``#case_id,...`` is a header, not a comment."""
    above: list[str] = []
    line = stream.readline()
    while line and (line.startswith("#") or not line.strip()):
        above.append(line)
        line = stream.readline()
    comments = [i for i, text in enumerate(above) if text.startswith("#")]
    if len(comments) == 1 and any(d in above[comments[0]] for d in "\t,;"):
        above, line = above[: comments[0]], above[comments[0]]
        stream.seek(sum(map(len, above)) + len(line))
        line = line.removeprefix("#")
    return line, len(above)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])


def _rows(
    path: Path, columns: tuple[str, ...], stream: io.StringIO, delimiter: str, n_read: int
) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(stream, delimiter=delimiter)
    empty = True
    while True:
        line = n_read + reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            what = f"line {line} cannot be parsed: {error}"
            raise DataError.of("O16", str(path), what, "check quotes") from None
        if row is None:
            break
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            what = f"line {line} has {len(row)} cells, the header {len(columns)}"
            remedy = "check quotes and decimal commas"
            if empty and len(row) == len(columns) + 1:
                remedy = "name the first column too (write.table of R: col.names=NA)"
            raise DataError.of("O16", str(path), what, remedy)
        empty = False
        yield line, row
    if empty:
        raise DataError.of("O16", str(path), "holds a header and no row", "check the export")


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise DataError.of("O16", str(path), what, "check the path and the file") from None


def _decode(path: Path, content: bytes) -> str:
    kind = _NOT_TEXT.get(content[:4])
    if kind is not None:
        raise DataError.of("O16", str(path), f"is {kind}, not text", "save the sheet as csv")
    encoding = _UTF16.get(content[:2], "utf-8-sig")
    if b"\x00" in content[:2] and encoding == "utf-8-sig":
        encoding = "utf-16-be" if content[:1] == b"\x00" else "utf-16-le"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        what = f"line {line} is not {encoding.removesuffix('-sig').upper()} text"
        raise DataError.of("O16", str(path), what, "save it as UTF-8") from None
