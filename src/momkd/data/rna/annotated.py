"""AnnData (``.h5ad``) and MuData (``.h5mu``) files, read by their published layout, without either.

``X`` is dense or compressed by rows or columns; ``obs`` and ``var`` name samples and genes. The
door of feature files guards these too: links out of the file, virtual or external data, foreign
filters and declared sizes are refused before anything is read. As with feature files, that happens
in a process of its own: what makes the HDF5 library crash or hang costs a line, not the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from momkd.child_processes import LostChildError, run_in_child
from momkd.data.delimited import CASE_COLUMNS, is_blank, plain_name
from momkd.data.rna.gdc_samples import sample_type_of
from momkd.data.rna.gene_names import is_ensembl, without_version
from momkd.data.rna.h5_store import REWRITE, H5Store, open_store
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import Look, RawTable, shown
from momkd.errors import DataError, Problem

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MODALITIES = ("rna", "rnaseq", "rna_seq", "mrna", "gex", "expression", "transcriptomics")
_SYMBOLS = ("gene_name", "gene_names", "gene_symbol", "gene_symbols", "symbol", "feature_name")
_TYPES = ("sample_type", "sample_type_id")
_MOST_BYTES = 16 << 30
_TIMEOUT_S = 600.0  # of a table of cases as wide as a genome, seconds; of a hang, for ever
_DEFECTS = (OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError, AttributeError)


@dataclass(frozen=True, slots=True)
class AnnotatedMatrix:
    """``.h5ad`` and ``.h5mu``."""

    name: str = "AnnData/MuData (HDF5)"

    def recognise(self, look: Look) -> str | None:
        """By the signature of HDF5, wherever the name came from."""
        if look.is_folder:
            return None
        try:
            with look.path.open("rb") as stream:
                head = stream.read(len(_SIGNATURE))
        except OSError:
            return None
        named = look.name.endswith((".h5ad", ".h5mu"))
        return "an HDF5 file with obs and var" if head == _SIGNATURE or named else None

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read one matrix with its names.

        Raises
        ------
        DataError
            O28 parts that are missing, damaged or do not fit; F01 to F05, F25 of the door; F27 its
            reader crashed or took too long, F34 it does not fit into memory.
        IntegrityError
            F21 to F24: links out of the file, or sizes that it cannot hold.
        """
        try:
            return run_in_child(read_annotated, path, options, timeout_s=_TIMEOUT_S)
        except LostChildError as error:
            raise DataError.of("F27", str(path), f"the reader {error}", REWRITE) from None


def read_annotated(path: Path, options: RnaOptions) -> RawTable:
    """Read one matrix with its names, here; errors as :meth:`AnnotatedMatrix.read`."""
    with open_store(path) as file:
        try:
            return _read(file, options)
        except _DEFECTS as error:
            text = " ".join(str(error).split())[:100]
            raise DataError.of("O28", str(path), f"is damaged: {text}", REWRITE) from None
        except MemoryError:
            what = "does not fit into memory"
            raise DataError.of("F34", str(path), what, "free memory") from None


def _read(file: H5Store, options: RnaOptions) -> RawTable:
    root, matrix, why = _place(file, options.rna_key)
    obs, genes = _index(file, f"{root}obs"), _index(file, f"{root}var")
    values = _matrix(file, matrix, (len(obs), len(genes)))
    notes = [why]
    scale = options.rna_scale if options.rna_scale != "auto" else None
    if matrix == f"{root}X" and file.has(f"{root}uns/log1p") and scale is None:
        values, scale = values / np.float32(_log_base(file, f"{root}uns/log1p")), "log2"
        notes.append("RNA: log1p was taken when it was written: brought to log2")
    ids, known = _samples(file, f"{root}obs", obs, notes)
    return RawTable(
        path=file.path,
        ids=ids,
        genes=genes,
        values=values,
        header=(*_columns(file, f"{root}obs"), *_columns(file, f"{root}var")),
        scale=scale,
        known=known,
        symbols=_symbols(file, f"{root}var", genes, notes),
        notes=notes,
        problems=_missing(file.path, values, genes, obs, options),
    )


def _place(file: H5Store, key: str | None) -> tuple[str, str, str]:
    """Give the root of the table inside the file, its matrix, and how they were chosen."""
    if not file.has("mod"):
        matrix = key or "X"
        if not file.has(matrix):
            found = [
                k for k in ("X", *(f"layers/{n}" for n in file.names("layers"))) if file.has(k)
            ]
            what = f"has no matrix {matrix!r} (has {shown(found) or 'none'})"
            raise file.refuse(what, "set data.rna_key")
        return "", matrix, f"RNA: matrix {matrix}"
    names = file.names("mod")
    fitting = [n for n in names if n.casefold() in _MODALITIES] or names
    if key is None and len(fitting) != 1:
        raise file.refuse(f"holds the modalities {shown(names)}", "set data.rna_key to one of them")
    modality, _, inner = (key or fitting[0]).partition("/")
    matrix = f"mod/{modality}/{inner or 'X'}"
    if not file.has(matrix):
        what = f"has no modality {key!r} (has {shown(names)})"
        raise file.refuse(what, "set data.rna_key to one of them")
    return f"mod/{modality}/", matrix, f"RNA: modality {modality} of {len(names)}"


def _index(file: H5Store, key: str) -> list[str]:
    if not file.has(key) or not file.is_group(key):
        raise file.refuse(f"'{key}' is no table as AnnData 0.7 and later write it")
    name = file.attributes(key).get("_index", "_index")
    name = name.decode() if isinstance(name, bytes) else str(name)
    return [text.strip() for text in _column(file, f"{key}/{name}")]


def _columns(file: H5Store, key: str) -> list[str]:
    return [name for name in file.names(key) if not name.startswith("__")]


def _column(file: H5Store, key: str) -> list[str]:
    """Read a column as text; categories are written out."""
    if file.has(key) and file.is_group(key):
        categories = _column(file, f"{key}/categories")
        codes = file.array(f"{key}/codes")
        if codes.dtype.kind not in "iu" or (codes.size and int(codes.max()) >= len(categories)):
            raise file.refuse(f"'{key}' has codes without category")
        return ["" if code < 0 else categories[code] for code in codes.tolist()]
    if not file.has(key):
        raise file.refuse(f"has no '{key}'")
    values = file.array(key)
    if values.ndim != 1:
        raise file.refuse(f"'{key}' is no column (shape {values.shape})")
    return [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values.tolist()]


def _matrix(file: H5Store, key: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    if 4 * shape[0] * shape[1] > _MOST_BYTES:
        raise file.refuse(
            f"{shape[0]:,} x {shape[1]:,} values are too many", "keep cases, not cells"
        )
    if not file.is_group(key):
        values = file.array(key)
        _require_numbers(file, key, values)
        if values.shape != shape:
            raise file.refuse(f"'{key}' has shape {values.shape}, obs and var say {shape}")
        return values.astype(np.float32)
    attributes = file.attributes(key)
    kind = attributes.get("encoding-type", attributes.get("h5sparse_format", ""))
    kind = (kind.decode() if isinstance(kind, bytes) else str(kind)).removesuffix("_matrix")
    stated = attributes.get("shape", attributes.get("h5sparse_shape", ()))
    if kind not in ("csr", "csc") or tuple(int(n) for n in stated) != shape:
        said = f"'{key}' is {kind or 'no'} matrix of shape {tuple(stated)}"
        raise file.refuse(f"{said}, wanted csr or csc of {shape}")
    data, indices, starts = (file.array(f"{key}/{n}") for n in ("data", "indices", "indptr"))
    _require_numbers(file, key, data)
    n_lines, n_across = shape if kind == "csr" else shape[::-1]
    fits = (
        all(a.ndim == 1 and a.dtype.kind in "iu" for a in (indices, starts))
        and len(starts) == n_lines + 1
        and len(data) == len(indices) == int(starts[-1])
        and int(starts[0]) == 0
        and bool((np.diff(starts.astype(np.int64)) >= 0).all())
        and (not len(indices) or (int(indices.min()) >= 0 and int(indices.max()) < n_across))
    )
    if not fits:
        raise file.refuse(f"'{key}': data, indices and indptr do not fit each other")
    form = sparse.csr_array if kind == "csr" else sparse.csc_array
    dense: NDArray[np.float32] = form(
        (data.astype(np.float32), indices.astype(np.int64), starts.astype(np.int64)), shape=shape
    ).toarray()
    return dense


def _require_numbers(file: H5Store, key: str, values: NDArray[Any]) -> None:
    if values.dtype.kind not in "fiu":
        raise file.refuse(f"'{key}' is {values.dtype}, wanted numbers")
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise DataError.of("O17", str(file.path), f"'{key}' holds infinite values", "mend it")


def _log_base(file: H5Store, key: str) -> float:
    """Give what a logarithm has to be divided by to be one to base 2; scanpy's is natural."""
    base = file.array(f"{key}/base") if file.has(f"{key}/base") else np.array(np.e)
    number = float(base) if base.dtype.kind in "fiu" and base.ndim == 0 else np.e
    if not number > 1:
        raise file.refuse(f"'{key}' has base {number:g}")
    return float(np.log(2) / np.log(number))


def _samples(
    file: H5Store, key: str, index: Sequence[str], notes: list[str]
) -> tuple[list[str], dict[str, tuple[str, str | None]]]:
    """Give ids, and the case and type of those that columns of ``obs`` explain."""
    names = {plain_name(n): n for n in _columns(file, key)}
    own = str(file.attributes(key).get("_index", "_index"))
    case = next((names[plain_name(n)] for n in CASE_COLUMNS if plain_name(n) in names), None)
    kind = next((names[plain_name(n)] for n in _TYPES if plain_name(n) in names), None)
    if case is None or case == own:
        return list(index), {}
    cases = [c.strip() for c in _column(file, f"{key}/{case}")]
    types = [""] * len(cases) if kind is None else _column(file, f"{key}/{kind}")
    if len(cases) != len(index) or len(types) != len(index) or "" in cases:
        raise file.refuse(f"'{key}/{case}' does not give each sample its case")
    notes.append(f"RNA: cases named by obs column {case}")
    if kind is not None:
        notes.append(f"RNA: sample types named by obs column {kind}")
    known = {i: (c, sample_type_of(t)) for i, c, t in zip(index, cases, types, strict=True)}
    if len(known) < len(index):
        raise file.refuse(f"'{key}' names samples that repeat")
    return list(index), known


def _symbols(file: H5Store, key: str, genes: Sequence[str], notes: list[str]) -> dict[str, str]:
    """Give the symbols that ``var`` holds beside Ensembl ids."""
    name = next((n for n in _SYMBOLS if n in _columns(file, key)), None)
    if name is None or not any(map(is_ensembl, genes)):
        return {}
    symbols = _column(file, f"{key}/{name}")
    if len(symbols) != len(genes):
        raise file.refuse(f"'{key}/{name}' does not give each gene its symbol")
    notes.append(f"RNA: symbols named by var column {name}")
    pairs = zip(map(without_version, genes), symbols, strict=True)
    return {gene: symbol.strip() for gene, symbol in pairs if not is_blank(symbol)}


def _missing(
    path: Path,
    values: NDArray[np.float32],
    genes: Sequence[str],
    samples: Sequence[str],
    options: RnaOptions,
) -> list[Problem]:
    gaps = np.isnan(values)
    if options.impute != "refuse" or not gaps.any():
        return []
    row, column = (int(i[0]) for i in np.nonzero(gaps))
    what = f"{int(gaps.sum())} values are missing, the first of {genes[column]} in {samples[row]}"
    remedy = "set data.impute: train_median"
    return [Problem(code="O06", where=str(path), what=what, remedy=remedy)]
