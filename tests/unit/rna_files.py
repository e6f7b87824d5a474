"""RNA of six cases, written in the layout of each source that publishes it."""

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

CASES = [f"TCGA-A{i}-000{i}" for i in range(6)]
GENES = ["ERBB2", "PGR", "ESR1", "TP53", "ACTB"]
IDS = [
    *("ENSG00000141736.14", "ENSG00000082175.15", "ENSG00000091831.24"),
    *("ENSG00000141510.18", "ENSG00000075624.17"),
]
TPM = np.round(np.random.default_rng(4).gamma(2.0, 90.0, (6, 5)), 4)
LOGGED = np.log2(TPM.astype(np.float32) + 1)
SUMMARY = ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")
STAR_COLUMNS = (
    *("gene_id", "gene_name", "gene_type", "unstranded", "stranded_first", "stranded_second"),
    *("tpm_unstranded", "fpkm_unstranded", "fpkm_uq_unstranded"),
)
UNITS = [f"{i:08d}-aaaa-bbbb-cccc-00000000000{i}" for i in range(6)]


def aliquot(case: str, sample: str = "01A", analyte: str = "R", plate: str = "A12P") -> str:
    return f"{case}-{sample}-11{analyte}-{plate}-07"


def star_text(tpm: NDArray[np.float64], ids: list[str] = IDS, genes: list[str] = GENES) -> str:
    lines = ["# gene-model: GENCODE v36", "\t".join(STAR_COLUMNS)]
    lines += [f"{name}\t\t\t{100 + i}\t7\t7\t\t\t" for i, name in enumerate(SUMMARY)]
    for gene_id, name, value in zip(ids, genes, tpm, strict=True):
        counts = f"{round(value * 3)}\t{round(value)}\t{round(value)}"
        lines.append(f"{gene_id}\t{name}\tprotein_coding\t{counts}\t{value}\t0.5\t0.5")
    return "\n".join(lines) + "\n"


def star_name(unit: str) -> str:
    return f"{unit}.rna_seq.augmented_star_gene_counts.tsv"


def write_star(folder: Path, *, zipped: bool = False, sheet: str = "json") -> Path:
    """One folder a file, as the GDC's client leaves them; cases by sheet, metadata or neither."""
    for unit, tpm in zip(UNITS, TPM, strict=True):
        place = folder / unit
        place.mkdir(parents=True)
        content = star_text(tpm).encode()
        name = star_name(unit)
        (place / (f"{name}.gz" if zipped else name)).write_bytes(
            gzip.compress(content) if zipped else content
        )
        (place / "annotations.txt").write_text("id\tsubmitter_id\n")
    if sheet == "json":
        (folder / "metadata.cart.2024-01-01.json").write_text(json.dumps(metadata()))
    elif sheet == "tsv":
        (folder / "gdc_sample_sheet.2024-01-01.tsv").write_text(sample_sheet())
    elif sheet == "manifest":
        rows = [f"{u}\t{star_name(u)}\td41d8\t10\treleased" for u in UNITS]
        text = "\n".join(["id\tfilename\tmd5\tsize\tstate", *rows])
        (folder / "gdc_manifest.txt").write_text(text)
    return folder


def metadata() -> list[dict[str, object]]:
    return [
        {
            "file_name": star_name(unit),
            "file_id": unit,
            "data_category": "Transcriptome Profiling",
            "associated_entities": [
                {
                    "entity_submitter_id": aliquot(case),
                    "entity_type": "aliquot",
                    "case_id": "00000000-0000-0000-0000-000000000000",
                }
            ],
        }
        for unit, case in zip(UNITS, CASES, strict=True)
    ]


def sample_sheet(samples: list[str] | None = None) -> str:
    header = (
        "File ID\tFile Name\tData Category\tData Type\tProject ID\tCase ID\tSample ID\tSample Type"
    )
    rows = [
        f"{u}\t{star_name(u)}\tTranscriptome Profiling\tGene Expression Quantification\tTCGA-BRCA"
        f"\t{c}\t{s}\tPrimary Tumor"
        for u, c, s in zip(UNITS, CASES, samples or [f"{c}-01A" for c in CASES], strict=True)
    ]
    return "\n".join([header, *rows]) + "\n"


def turned_text(
    corner: list[str],
    names: list[list[str]],
    samples: list[str],
    values: NDArray[np.float64],
    by: str,
) -> str:
    lines = [by.join([*corner, *samples])]
    for name, row in zip(names, values.T, strict=True):
        lines.append(by.join([*name, *(repr(float(v)) for v in row)]))
    return "\n".join(lines) + "\n"


def write_strings(group: h5py.Group, name: str, values: list[str]) -> None:
    data = group.create_dataset(name, data=values, dtype=h5py.string_dtype())
    data.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


def write_frame(parent: h5py.Group, name: str, index: list[str]) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update(
        {
            "_index": "_index",
            "column-order": np.array([], dtype=h5py.string_dtype()),
            "encoding-type": "dataframe",
            "encoding-version": "0.2.0",
        }
    )
    write_strings(group, "_index", index)
    return group


def write_categorical(parent: h5py.Group, name: str, values: list[str]) -> None:
    group = parent.create_group(name)
    group.attrs.update(
        {"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False}
    )
    categories = sorted(set(values))
    write_strings(group, "categories", categories)
    group.create_dataset("codes", data=np.array([categories.index(v) for v in values], np.int8))


def write_anndata(root: h5py.Group, values: NDArray[np.float64], ids: list[str], form: str) -> None:
    """The layout of AnnData 0.8 and later; ``form`` is dense, csr or csc."""
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    if form == "dense":
        root.create_dataset("X", data=values.astype(np.float32))
    else:
        kind = sparse.csr_matrix if form == "csr" else sparse.csc_matrix
        matrix = kind(values.astype(np.float32))
        group = root.create_group("X")
        group.attrs.update(
            {
                "encoding-type": f"{form}_matrix",
                "encoding-version": "0.1.0",
                "shape": np.array(matrix.shape),
            }
        )
        for name in ("data", "indices", "indptr"):
            group.create_dataset(name, data=getattr(matrix, name))
    write_frame(root, "obs", ids)
    write_frame(root, "var", GENES)
    for name in ("layers", "obsm", "uns", "varm"):
        root.create_group(name).attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
