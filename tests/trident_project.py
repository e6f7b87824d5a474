"""A study as TRIDENT, Xena and the GDC leave it on disk: small, simulated, with the usual gaps."""

import gzip
import uuid
from pathlib import Path

import h5py
import numpy as np

GENES = ("ERBB2", "ESR1", "GAPDH", "TP53", "MKI67", "ACTB", "EGFR", "MYC")
CLINICAL = "nationwidechildrens.org_clinical_patient_brca.txt"
_COLUMNS = (
    *("bcr_patient_uuid", "bcr_patient_barcode", "er_status_by_ihc", "pr_status_by_ihc"),
    *("her2_status_by_ihc", "her2_ihc_score", "her2_fish_status", "patient_id"),
    "tissue_source_site",
)


def write_project(folder: Path, n_cases: int = 26, *, n_tiles: int = 9, dim: int = 8) -> None:
    """Write ``trident/``, ``TCGA-BRCA.star_tpm.tsv.gz`` and the GDC's clinical table.

    Every third case is HER2-positive, every eighth equivocal without FISH; one case has no slide,
    one no RNA, one is unknown to the clinical table; RNA holds a normal sample too.
    """
    rng = np.random.default_rng(0)
    sites = ("A2", "BH", "E2")
    ids = [f"TCGA-{sites[i % 3]}-A{i:03d}" for i in range(n_cases)]
    place = folder / "trident" / "20x_256px_0px_overlap" / "features_uni_v1"
    place.mkdir(parents=True)
    for case_id in [*ids[1:], "TCGA-ZZ-9999"]:
        name = f"{case_id}-01Z-00-DX1.{uuid.uuid5(uuid.NAMESPACE_URL, case_id)}".upper()
        _write_features(place / f"{name}.h5", rng, n_tiles, dim)
    _write_xena(folder / "TCGA-BRCA.star_tpm.tsv.gz", ids[:-1], rng)
    _write_clinical(folder / CLINICAL, ids)


def _write_features(path: Path, rng: np.random.Generator, n_tiles: int, dim: int) -> None:
    side = int(np.ceil(np.sqrt(n_tiles)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    with h5py.File(path, "w") as file:
        features = file.create_dataset(
            "features", data=rng.normal(size=(n_tiles, dim)).astype(np.float32)
        )
        features.attrs["encoder"] = "uni_v1"
        coords = file.create_dataset("coords", data=grid[:n_tiles].astype(np.int64) * 512)
        coords.attrs["patch_size"] = 256
        coords.attrs["patch_size_level0"] = 512
        coords.attrs["level0_magnification"] = 40
        coords.attrs["target_magnification"] = 20
        coords.attrs["overlap"] = 0


def _write_xena(path: Path, ids: list[str], rng: np.random.Generator) -> None:
    samples = [f"{c}-01A" for c in ids] + [f"{ids[0]}-11A"]
    lines = ["\t".join(["Ensembl_ID", *samples])]
    for i in range(len(GENES)):
        values = rng.uniform(0, 9, len(samples))
        lines.append("\t".join([f"ENSG{i:011d}.{i + 1}", *(f"{v:.4f}" for v in values)]))
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


def _write_clinical(path: Path, ids: list[str]) -> None:
    lines = ["\t".join(_COLUMNS), "\t".join(_COLUMNS)]
    lines.append("\t".join("CDE_ID:" for _ in _COLUMNS))
    for i, case_id in enumerate(ids):
        her2 = ("Negative", "1+", "Negative")
        if i % 3 == 0:
            her2 = ("Positive", "3+", "[Not Evaluated]")
        if i % 8 == 7:
            her2 = ("Equivocal", "2+", "[Not Evaluated]")
        pr = ("Positive", "Negative", "[Not Evaluated]")[i % 3]
        row = [str(uuid.UUID(int=i)).upper(), case_id, "Positive", pr, *her2, case_id[-4:]]
        lines.append("\t".join([*row, case_id[5:7]]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
