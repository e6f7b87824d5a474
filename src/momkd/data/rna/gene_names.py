"""Names of genes: Ensembl versions, copies, maps from id to symbol, lists."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from momkd.data.delimited import find_column, is_blank, read_table
from momkd.data.text_lines import TextLines
from momkd.errors import DataError

_ENSEMBL = re.compile(r"^(ENS[A-Z]*G\d{11})(\.\d+)?(_PAR_Y)?$")
_ID_COLUMNS = ("id", "ensembl_id", "gene_id", "ensembl", "ensembl_gene_id", "probe", "from")
_SYMBOL_COLUMNS = ("gene", "gene_name", "symbol", "hugo_symbol", "gene_symbol", "hgnc_symbol", "to")


def is_ensembl(name: str) -> bool:
    """Say whether a name is an Ensembl gene id, with or without version."""
    return _ENSEMBL.match(name) is not None


def without_version(name: str) -> str:
    """Strip the version of an Ensembl id; other names pass untouched."""
    found = _ENSEMBL.match(name)
    return name if found is None else f"{found[1]}{found[3] or ''}"


def is_par_copy(name: str) -> bool:
    """Say whether it is the Y chromosome's copy of a pseudo-autosomal gene, which GENCODE adds.

    Reads are counted for the copy on X; that on Y holds zeros.
    """
    return name.endswith("_PAR_Y") and is_ensembl(name)


def mangled_copies(names: Sequence[str]) -> dict[int, str]:
    """Find names that pandas or R made of repeated ones: ``TP53.1`` behind ``TP53``.

    A number counts as one only where the name itself and all smaller numbers stand there too.

    Returns
    -------
    dict
        Place to the name it stood for.
    """
    there = set(names)
    found: dict[int, str] = {}
    for place, name in enumerate(names):
        stem, dot, number = name.rpartition(".")
        if not dot or not number.isdecimal() or stem not in there or not number.isascii():
            continue
        if number[0] != "0" and all(f"{stem}.{k}" in there for k in range(1, int(number[:6]))):
            found[place] = stem
    return found


def read_gene_map(path: Path) -> dict[str, str]:
    """Read gene ids and their symbols, such as a Xena probemap; versions of the ids are stripped.

    Raises
    ------
    DataError
        O09 columns that are not recognised, or an id with two symbols; O16 no table.
    """
    table = read_table(path)
    ids, symbols = (find_column(table.columns, n) for n in (_ID_COLUMNS, _SYMBOL_COLUMNS))
    if (ids is None or symbols is None) and len(table.columns) == 2:
        ids, symbols = table.columns
    if ids is None or symbols is None or ids == symbols:
        what = f"columns {', '.join(table.columns[:4])} are not recognised"
        raise DataError.of("O09", str(path), what, "name them id and gene")
    found: dict[str, str] = {}
    columns = table.column(ids), table.column(symbols)
    for row, name, symbol in zip(table.lines, *columns, strict=True):
        # a gene may be called NA or None: only nothing is no symbol
        if not name or not symbol or (is_blank(symbol) and is_ensembl(name)):
            continue
        plain = without_version(name)
        if found.setdefault(plain, symbol) != symbol:
            what = f"line {row}: {plain} is {found[plain]} and {symbol}"
            raise DataError.of("O09", str(path), what, "one symbol a gene: mend the map")
    return found


def read_gene_list(path: Path) -> list[str]:
    """Read names of genes, one a line; blank lines and lines that begin with ``#`` are none.

    Raises
    ------
    DataError
        O13 a name that stands twice, O16 no text or no name.
    """
    lines = (line.strip() for line in TextLines(path))
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise DataError.of("O16", str(path), "names no gene", "write one name a line")
    twice = next((name for name, n in Counter(names).items() if n > 1), None)
    if twice is not None:
        raise DataError.of("O13", str(path), f"names {twice} twice", "one line a gene")
    return names
