"""Rows of numbers behind a name: the common ones read many at once, the odd ones cell by cell."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from momkd.data.delimited import OpenTable
from momkd.data.rna.number_cells import NumberReader, quick_numbers

_MOST_CELLS = 1 << 14  # read at once: what the processor's cache holds


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRows:
    """The numbers of a table, row by row.

    Parameters
    ----------
    table
        Behind its header.
    name_at
        Column of the names of rows.
    kept
        Columns of numbers, in order.
    reader
        Remembers the cells that are no numbers.
    genes
        Name of the gene of each kept column; None where the row's name is the gene.
    """

    table: OpenTable
    name_at: int
    kept: Sequence[int]
    reader: NumberReader
    genes: Sequence[str] | None
    _waiting: list[tuple[int, list[str]]] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Give the name of each row and its numbers, NaN where there is none.

        Raises
        ------
        DataError
            O16 a row that cannot be parsed or is of another length.
        """
        lines, parsed = self.table.lines, self.table.rows()
        first, n_columns = self.kept[0], len(self.table.columns)
        to_the_end = list(self.kept) == list(range(first, n_columns)) and self.name_at < first
        most = max(1, _MOST_CELLS // len(self.kept))
        while (line := next(lines, None)) is not None:
            plain = to_the_end and '"' not in line
            if plain and line.count(self.table.delimiter) == n_columns - 1:
                cells = line.rstrip("\r\n").split(self.table.delimiter, first)
                self._waiting.append((lines.n_read, cells))
                if len(self._waiting) >= most:
                    yield from self._read_waiting()
                continue
            yield from self._read_waiting()
            lines.put_back([line])
            item = next(parsed, None)
            if item is None:
                return
            number, row = item
            yield self._read(number, row[self.name_at], [row[i] for i in self.kept])
        yield from self._read_waiting()

    def _read_waiting(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Read the rows that wait, at once if they are all plain."""
        waiting = self._waiting[:]
        self._waiting.clear()
        values = self._quick([cells[-1] for _, cells in waiting])
        if values is not None:
            names = [cells[self.name_at].strip() for _, cells in waiting]
            yield from zip(names, values, strict=True)
            return
        for number, (*before, rest) in waiting:
            cells = rest.split(self.table.delimiter)
            if any(cell.strip() for cell in (*before, *cells)):
                yield self._read(number, before[self.name_at], cells)

    def _quick(self, rests: Sequence[str]) -> NDArray[np.float32] | None:
        text = self.table.delimiter.join(rests)
        if not rests or not text.isascii():
            return None
        n_cells = len(rests) * len(self.kept)
        found = quick_numbers(text.encode("ascii"), self.table.delimiter.encode(), n_cells)
        return None if found is None else found.reshape(len(rests), len(self.kept))

    def _read(
        self, number: int, name: str, cells: Sequence[str]
    ) -> tuple[str, NDArray[np.float32]]:
        gene = name.strip()
        columns = [self.table.columns[i] for i in self.kept]
        genes = gene if self.genes is None else self.genes
        return gene, self.reader.read(number, cells, genes, columns)
