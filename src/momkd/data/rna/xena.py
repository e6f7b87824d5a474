"""Matrices of the UCSC Xena hubs: genes x samples, tab-separated, logged when they were made."""

from dataclasses import dataclass
from pathlib import Path

from momkd.data.barcodes import parse_barcode
from momkd.data.delimited import plain_name
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import Look, RawTable
from momkd.data.rna.wide_table import read_wide_table


@dataclass(frozen=True, slots=True)
class XenaGdc:
    """``TCGA-BRCA.star_tpm.tsv.gz`` and its like: ``Ensembl_ID`` with version, log2(x + 1)."""

    name: str = "Xena GDC matrix"

    def recognise(self, look: Look) -> str | None:
        """By the first column's name, and genes down it."""
        if look.is_folder or plain_name(look.columns[0]) != "ensemblid":
            return None
        if not all(row[0].strip().startswith(("ENS", "_", "N_")) for row in look.rows):
            return None
        return "first column Ensembl_ID, samples across; the hub logs what it holds"

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read it as a wide table that is logged already."""
        return read_wide_table(path, options, scale="log2")


@dataclass(frozen=True, slots=True)
class XenaLegacy:
    """``HiSeqV2`` of the legacy hub: symbols under ``sample``, log2(normalised count + 1)."""

    name: str = "Xena legacy matrix (HiSeqV2)"

    def recognise(self, look: Look) -> str | None:
        """By the first column's name, and barcodes across."""
        if look.is_folder or plain_name(look.columns[0]) != "sample":
            return None
        samples = look.columns[1:]
        if look.delimiter != "\t" or sum(map(bool, map(parse_barcode, samples))) * 2 < len(samples):
            return None
        return "first column sample, barcodes across; the hub logs what it holds"

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read it as a wide table that is logged already."""
        return read_wide_table(path, options, scale="log2")
