"""Tables with a case in each row, as multimodal survival models are fed, and any wide table."""

from dataclasses import dataclass
from pathlib import Path

from momkd.data.barcodes import parse_barcode
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import Look, RawTable
from momkd.data.rna.wide_table import SUFFIX, case_column_of, read_wide_table

_MOST_UNNAMED = ("", "unnamed: 0", "index")


@dataclass(frozen=True, slots=True)
class Mcat:
    """One wide table of MCAT or PORPOISE: ``_rnaseq``, ``_cnv``, ``_mut`` and clinical columns."""

    name: str = "MCAT/PORPOISE wide table"

    def recognise(self, look: Look) -> str | None:
        """By the suffix of its columns."""
        if look.is_folder:
            return None
        n = sum(c.lower().endswith(SUFFIX) for c in look.columns)
        return f"{n:,} columns end in {SUFFIX}" if n else None

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Keep the suffixed columns."""
        return read_wide_table(path, options)


@dataclass(frozen=True, slots=True)
class SurvPath:
    """``rna_clean.csv`` of SurvPath: an unnamed first column of cases, symbols across."""

    name: str = "SurvPath rna_clean"

    def recognise(self, look: Look) -> str | None:
        """By the unnamed index of 12-character barcodes."""
        if look.is_folder or look.columns[0].casefold() not in _MOST_UNNAMED or not look.rows:
            return None
        ids = [row[0].strip() for row in look.rows]
        if not all(len(i) == 12 and parse_barcode(i) is not None for i in ids):
            return None
        return "an unnamed first column of 12-character barcodes, genes across"

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read it as a wide table."""
        return read_wide_table(path, options)


@dataclass(frozen=True, slots=True)
class AnyWideTable:
    """Any table with samples one way and genes the other."""

    name: str = "wide table"

    def recognise(self, look: Look) -> str | None:
        """By what stands in its header and first column."""
        if look.is_folder:
            return None
        column = case_column_of(look)
        if column is None:
            return "samples stand in its columns"
        return f"cases stand in its rows (column {column or 'without a name'!r})"

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read it as a wide table."""
        return read_wide_table(path, options)
