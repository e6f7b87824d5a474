"""What every form of an RNA table is read into, and what a form has to offer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from momkd.data.delimited import open_table
from momkd.data.rna.options import RnaOptions
from momkd.errors import Problem

_PEEK_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawTable:
    """Numbers as they stand in the source, samples in rows.

    Parameters
    ----------
    path
        File or folder.
    ids, genes
        Names of rows and columns; both may repeat.
    values
        NaN where a cell holds no usable number; those are told in ``problems``.
    header
        All names of the first line of a text table.
    scale
        What the form says the values are; None if it does not say.
    known
        Case and sample type of ids that a sheet explains; the others are read as barcodes.
    symbols
        Gene id to symbol, as far as the source itself gives it.
    notes, problems
        What was left out, and what is wrong.
    """

    path: Path
    ids: list[str]
    genes: list[str]
    values: NDArray[np.float32]  # (n_samples, n_genes)
    header: tuple[str, ...] = ()
    scale: str | None = None
    known: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    symbols: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Look:
    """A first look at a source, by which the forms recognise it; text is read when asked for.

    Raises
    ------
    DataError
        O16 no file, or no table; when its text is asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_folder = path.is_dir()
        self.name = path.name.casefold()

    @cached_property
    def _head(self) -> tuple[tuple[str, ...], list[list[str]], str]:
        table = open_table(self.path)
        return table.columns, [row for _, row in islice(table.rows(), _PEEK_ROWS)], table.delimiter

    @property
    def columns(self) -> tuple[str, ...]:
        """The header of a text table."""
        return self._head[0]

    @property
    def rows(self) -> list[list[str]]:
        """The first rows of a text table."""
        return self._head[1]

    @property
    def delimiter(self) -> str:
        """What parts the cells of a text table."""
        return self._head[2]


@runtime_checkable
class RnaForm(Protocol):
    """A convention in which RNA comes; recognised by content."""

    @property
    def name(self) -> str:
        """How the form is called."""
        ...

    def recognise(self, look: Look) -> str | None:
        """Say by what the form is recognised, or None."""
        ...

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read everything; cells that are no numbers are told in ``problems``."""
        ...


def shown(names: Sequence[str], most: int = 6) -> str:
    """List the first few names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
