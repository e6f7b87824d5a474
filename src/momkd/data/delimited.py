"""The one way text tables are read: everything as text, nothing guessed to be missing."""

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

from momkd.errors import DataError

BLANK = frozenset({"", "na", "n/a", "nan", "none", "null", "."})
"""Cells that mean "nothing stated", trimmed and case-folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table as text; ``lines`` holds the line of the file that each row stands on."""

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """Give a column, trimmed."""
        place = self.columns.index(name)
        return [row[place].strip() for row in self.rows]


def read_table(path: Path) -> TextTable:
    """Read a csv, tsv or txt table, gzipped or not, UTF-8 (with or without BOM) or UTF-16.

    Raises
    ------
    DataError
        O16 it cannot be read, is empty, or has rows of another length.
    """
    text = _decode(path, _content(path))
    head = text[: text.find("\n")] if "\n" in text else text
    delimiter = max("\t,;", key=head.count)
    if not head.count(delimiter):
        what = "is no table: its first line has no comma, tab or semicolon"
        raise DataError.of("O16", str(path), what, "give a csv or tsv")
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error as error:
        raise DataError.of("O16", str(path), f"cannot be parsed: {error}") from None
    columns = tuple(c.strip() for c in lines[0])
    numbered = [(n, row) for n, row in enumerate(lines[1:], start=2) if any(map(str.strip, row))]
    if not numbered:
        raise DataError.of("O16", str(path), "holds a header and no row", "check the export")
    for number, row in numbered:
        if len(row) != len(columns):
            what = f"line {number} has {len(row)} cells, the header {len(columns)}"
            raise DataError.of("O16", str(path), what, "check quotes and decimal commas")
    rows = [row for _, row in numbered]
    return TextTable(path=path, columns=columns, rows=rows, lines=[n for n, _ in numbered])


def is_blank(cell: str) -> bool:
    """Say whether a cell states nothing."""
    return cell.strip().casefold() in BLANK


def find_column(columns: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    """Give the first column called one of ``names``, whatever its case and separators."""
    plain = {_plain(c): c for c in reversed(columns)}
    return next((plain[_plain(n)] for n in names if _plain(n) in plain), None)


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise DataError.of("O16", str(path), what, "check the path and the file") from None


def _decode(path: Path, content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        what = f"line {line} is not {encoding.removesuffix('-sig').upper()} text"
        raise DataError.of("O16", str(path), what, "save it as UTF-8") from None
