"""A folder of STAR counts from the GDC: one TSV an aliquot, in folders named by UUID or in one."""

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from momkd.data.delimited import open_table
from momkd.data.rna.gdc_samples import SampleSheet, describe, find_sample_sheet
from momkd.data.rna.gene_names import without_version
from momkd.data.rna.number_cells import NumberReader, numbers_between
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import Look, RawTable, shown
from momkd.data.rna.wide_table import is_summary
from momkd.data.text_lines import unreadable
from momkd.errors import DataError, MomkdError, Problem, Problems

_HEADER = ("gene_id", "gene_name", "gene_type", "unstranded")
_HEAD_BYTES = 2048
_TAB, _NEWLINE = ord("\t"), ord("\n")
_COLUMNS = {"tpm": "tpm_unstranded", "counts": "unstranded"}


@dataclass(frozen=True, slots=True)
class StarFolder:
    """Files of the GDC's expression pipeline: TPM are read, or counts where those are asked for."""

    name: str = "GDC STAR counts (a folder)"

    def recognise(self, look: Look) -> str | None:
        """By the header of the files in it."""
        if look.is_folder:
            n = len(_star_files(look.path))
            return f"{n:,} files with the columns {', '.join(_HEADER)}" if n else None
        if look.columns[: len(_HEADER)] == _HEADER:
            what = "is the file of a single aliquot"
            raise DataError.of("O16", str(look.path), what, "give the folder of all aliquots")
        return None

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read every file; the rows ``N_unmapped`` and so on are left out.

        Raises
        ------
        DataError
            O04 files without a case, O16 a damaged file, O27 files that list other genes.
        """
        files = _star_files(path)
        sheet = find_sample_sheet(path, options.rna_samples)
        owners = [sheet.owner(file) for file in files]
        unowned = [f for f, owner in zip(files, owners, strict=True) if owner is None]
        if unowned:
            what, remedy = describe(sheet, unowned, len(files))
            raise DataError.of("O04", str(path), what, remedy)
        scale = options.rna_scale if options.rna_scale in _COLUMNS else "tpm"
        reader = _StarReader(files[0], _COLUMNS[scale])
        values: list[NDArray[np.float32]] = []
        problems = Problems()
        for file in files:
            try:
                values.append(reader.read(file))
            except MomkdError as error:
                problems.found += error.problems
        problems.found += reader.problems(options.impute)
        if len(values) < len(files):
            problems.refuse(DataError)
        found = [owner for owner in owners if owner is not None]
        return RawTable(
            path=path,
            ids=[o.sample_id for o in found],
            genes=reader.genes,
            values=np.stack(values),
            scale=scale,
            known={o.sample_id: (o.case_id, o.sample_type) for o in found},
            symbols=reader.symbols,
            notes=_notes(files, sheet, reader),
            problems=problems.found,
        )


def _notes(files: list[Path], sheet: SampleSheet, reader: "_StarReader") -> list[str]:
    notes = [f"RNA: column {reader.column} of {len(files):,} files"]
    if sheet.sources:
        notes.append(f"RNA: cases named by {shown([p.name for p in sheet.sources])}")
    here = {f.name.removesuffix(".gz") for f in files}
    absent = sorted(n for n in sheet.by_name if n.removesuffix(".gz") not in here)
    absent = [n for n in absent if re.search(r"gene_counts\.tsv(\.gz)?$", n)]
    if absent:
        notes.append(f"RNA: {len(absent):,} files of the sheet are not in the folder: {absent[0]}")
    if reader.summary:
        text = f"RNA: {len(reader.summary)} summary rows a file left out"
        notes.append(f"{text}: {shown(reader.summary)}")
    return notes


def _star_files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*.tsv*")) if p.is_file() and _is_star(p)]


def _is_star(path: Path) -> bool:
    if not path.name.endswith((".tsv", ".tsv.gz")):
        return False
    try:
        with path.open("rb") as stream:
            zipped = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return path.name.endswith(("gene_counts.tsv", "gene_counts.tsv.gz"))  # told when read
    lines = [line for line in head.splitlines() if not line.startswith(b"#")]
    return bool(lines) and tuple(lines[0].decode("latin-1").split("\t")[:4]) == _HEADER


class _StarReader:
    """Reads one column of files that list the same genes in the same order as the first."""

    def __init__(self, first: Path, column: str) -> None:
        self.column = column
        self.first = first
        self.symbols: dict[str, str] = {}
        self.summary: list[str] = []
        self.genes: list[str] = []
        self._ids = np.zeros(0, dtype="S1")
        self._is_gene = np.zeros(0, dtype=bool)
        self._cells: list[NumberReader] = []
        self._read_first(first)

    def problems(self, impute: str) -> list[Problem]:
        """Tell the cells of all files that are no numbers."""
        return [p for reader in self._cells for p in reader.problems(impute)]

    def read(self, path: Path) -> NDArray[np.float32]:
        """Give one file's values, in the order of the first file's genes."""
        values = self._read_quickly(path)
        return self._read_row_by_row(path) if values is None else values

    def _read_first(self, path: Path) -> None:
        table = open_table(path)
        _place(path, table.columns, self.column)
        names: list[str] = []
        for _, row in table.rows():
            name, symbol = row[0].strip(), row[1].strip()
            names.append(name)
            if is_summary(name):
                self.summary.append(name)
                continue
            self.genes.append(name)
            if symbol:
                self.symbols[without_version(name)] = symbol
        if not self.genes:
            raise DataError.of("O16", str(path), "holds no gene", "download it again")
        self._ids = np.array([n.encode() for n in names])
        self._is_gene = np.array([not is_summary(n) for n in names])

    def _read_quickly(self, path: Path) -> NDArray[np.float32] | None:
        """Read a file whose every line is as long as its header; None for any other."""
        try:
            content = path.read_bytes()
            content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        except (OSError, EOFError, zlib.error) as error:
            raise unreadable(path, error) from None
        found = re.match(rb"(?:#[^\n]*\n)*(gene_id\t[^\n]*)\n", content)
        if found is None or b'"' in content or b"\r" in content or not content.isascii():
            return None
        columns = tuple(found[1].decode("ascii").split("\t"))
        at, n_rows = _place(path, columns, self.column), len(self._ids)
        body = content[found.end() :]
        text = np.frombuffer(body if body.endswith(b"\n") else body + b"\n", np.uint8)
        marks = np.flatnonzero((text == _TAB) | (text == _NEWLINE))
        if len(marks) != n_rows * len(columns):
            return None
        starts = np.concatenate([[0], marks[:-1] + 1]).reshape(n_rows, -1)
        ends = marks.reshape(n_rows, -1)
        if (text[ends[:, -1]] != _NEWLINE).any() or (text[ends[:, :-1]] != _TAB).any():
            return None
        if not self._same_ids(text, starts[:, 0], ends[:, 0]):
            return None
        return numbers_between(text, starts[self._is_gene, at], ends[self._is_gene, at])

    def _same_ids(
        self, text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> bool:
        """Say whether the rows are those of the first file, in its order."""
        width = self._ids.itemsize
        if int((ends - starts).max()) > width:
            return False
        letters = np.arange(width)
        places = np.minimum(starts[:, None] + letters, len(text) - 1)
        inside = letters < (ends - starts)[:, None]
        known = self._ids.view(np.uint8).reshape(len(self._ids), width)
        return bool((np.where(inside, text[places], 0) == known).all())

    def _read_row_by_row(self, path: Path) -> NDArray[np.float32]:
        table = open_table(path)
        at = _place(path, table.columns, self.column)
        genes: list[str] = []
        lines: list[int] = []
        cells: list[str] = []
        for line, row in table.rows():
            if not is_summary(row[0]):
                genes.append(row[0].strip())
                lines.append(line)
                cells.append(row[at])
        if genes != self.genes:
            what = f"lists other genes than {self.first.name} ({len(genes):,}, {len(self.genes):,})"
            remedy = "one gene model a folder: download these files again"
            raise DataError.of("O27", str(path), what, remedy)
        reader = NumberReader(path)
        self._cells.append(reader)
        values = [
            reader.read(line, [cell], gene, [self.column])
            for line, cell, gene in zip(lines, cells, genes, strict=True)
        ]
        return np.concatenate(values)


def _place(path: Path, columns: tuple[str, ...], name: str) -> int:
    if name in columns:
        return columns.index(name)
    what = f"has no column {name} (has {shown(list(columns), 4)})"
    remedy = "give files of the STAR pipeline, data release 32 or later"
    raise DataError.of("O16", str(path), what, remedy)
