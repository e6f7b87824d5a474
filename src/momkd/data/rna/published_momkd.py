"""What the published MoMKD code reads: ``TCGA_gene.csv``, and a vector a patient as ``.npy``."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from momkd.data.barcodes import parse_barcode
from momkd.data.rna.gene_names import read_gene_list
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import Look, RawTable, shown
from momkd.data.rna.wide_table import case_column_of, read_wide_table
from momkd.errors import DataError, IntegrityError, MomkdError, Problem, Problems

_LARGEST_HEADER = 10_000


@dataclass(frozen=True, slots=True)
class MomkdTable:
    """``TCGA_gene.csv``: comma-separated, genes down an unnamed column, barcodes across."""

    name: str = "MoMKD TCGA_gene"

    def recognise(self, look: Look) -> str | None:
        """By its orientation and the unnamed first column."""
        if look.is_folder or look.delimiter != "," or look.columns[0] != "":
            return None
        samples = look.columns[1:]
        if not all(map(parse_barcode, samples)) or case_column_of(look) is not None:
            return None
        return "genes down an unnamed first column, barcodes across, comma-separated"

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read it as a wide table."""
        return read_wide_table(path, options)


@dataclass(frozen=True, slots=True)
class MomkdVectors:
    """A folder with one ``.npy`` vector a patient; the file's name begins with the case.

    The vectors carry no names of genes. Names made up here would let two tables of one length
    match that list their genes in another order, so a list is wanted (``gene_list``).
    """

    name: str = "MoMKD vectors (.npy)"

    def recognise(self, look: Look) -> str | None:
        """By what the folder holds."""
        n = len(_vector_files(look.path)) if look.is_folder else 0
        return f"a folder of {n:,} .npy files" if n else None

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read every vector.

        Raises
        ------
        DataError
            O04 a file whose name begins with no case, O26 no names of genes or another number of
            them, O17 no numbers, O27 lengths that differ.
        IntegrityError
            O22 pickled objects.
        """
        files = _vector_files(path)
        if options.gene_list is None:
            what = f"holds {len(files):,} vectors without names of genes"
            remedy = "set data.gene_list: a text file with their genes in order, one a line"
            raise DataError.of("O26", str(path), what, remedy)
        genes = read_gene_list(options.gene_list)
        vectors: list[NDArray[np.float32]] = []
        problems = Problems()
        for file in files:
            try:
                vectors.append(_vector(file))
            except IntegrityError:
                raise
            except MomkdError as error:
                problems.found += error.problems
        problems.refuse(DataError)
        lengths = sorted({len(v) for v in vectors})
        if len(lengths) > 1:
            what = f"holds vectors of {len(lengths)} lengths ({shown([str(n) for n in lengths])})"
            raise DataError.of("O27", str(path), what, "give vectors over one list of genes")
        if lengths[0] != len(genes):
            what = (
                f"holds vectors of {lengths[0]:,} values, {options.gene_list.name} {len(genes):,}"
            )
            raise DataError.of("O26", str(path), what, "give the list these vectors were made with")
        ids = [f.name.removesuffix(".npy")[:12] for f in files]
        nameless = [f.name for f, i in zip(files, ids, strict=True) if parse_barcode(i) is None]
        if nameless:
            what = f"{len(nameless)} files do not begin with a case ({shown(nameless, 3)})"
            remedy = "name each file by its 12-character case"
            raise DataError.of("O04", str(path), what, remedy)
        values = np.stack(vectors)
        missing = _missing(path, values, options, [f.name for f in files])
        return RawTable(path=path, ids=ids, genes=genes, values=values, problems=missing)


def _vector_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix == ".npy" and p.is_file())


def _vector(path: Path) -> NDArray[np.float32]:
    """Read one vector, whose header must tell the truth; nothing is unpickled."""
    try:
        with path.open("rb") as stream:
            shape, dtype = _header(stream)
            if dtype.hasobject:
                what = "holds pickled objects, not numbers"
                remedy = "save it as float32, if you trust it"
                raise IntegrityError.of("O22", str(path), what, remedy)
            content = stream.read()
    except OSError as error:
        raise DataError.of("O16", str(path), f"cannot be read: {error}") from None
    except ValueError as error:
        what = f"is no .npy file: {str(error)[:80]}"
        raise DataError.of("O16", str(path), what, "save it again") from None
    size = int(np.prod(shape, dtype=np.float64))
    if dtype.kind not in "fiu" or len(shape) not in (1, 2) or size != max(shape, default=0):
        what = f"is {dtype} of shape {shape}, wanted one vector of numbers"
        raise DataError.of("O17", str(path), what, "save a vector of float32 a patient")
    if len(content) != size * dtype.itemsize:
        what = f"declares {size:,} values and holds {len(content) // dtype.itemsize:,}"
        raise DataError.of("O16", str(path), what, "copy it again")
    with np.errstate(over="ignore"):
        vector = np.frombuffer(content, dtype=dtype).astype(np.float32)
    if np.isinf(vector).any():
        raise DataError.of("O17", str(path), "holds infinite values", "mend it")
    return vector


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"format {version}")
    shape, _, dtype = read(stream, max_header_size=_LARGEST_HEADER)
    return shape, dtype


def _missing(
    path: Path, values: NDArray[np.float32], options: RnaOptions, names: list[str]
) -> list[Problem]:
    gaps = np.isnan(values)
    if options.impute != "refuse" or not gaps.any():
        return []
    first = names[int(np.flatnonzero(gaps.any(axis=1))[0])]
    what = f"{int(gaps.sum())} values are missing, the first in {first}"
    remedy = "set data.impute: train_median"
    return [Problem(code="O06", where=str(path), what=what, remedy=remedy)]
