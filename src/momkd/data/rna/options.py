"""What a user may say of an RNA table."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from momkd.config import Options
from momkd.data.barcodes import SAMPLE_TYPES

Scale = Literal["auto", "counts", "tpm", "rsem", "log2", "zscore"]
Aliquots = Literal["published", "mean", "first", "refuse"]


class RnaOptions(Options):
    """How an RNA table is read.

    Parameters
    ----------
    rna_scale
        What the values are, or ``auto``: what the form says, else what the numbers look like.
    rna_samples
        Of a folder with one file an aliquot: the GDC sample sheet or metadata (JSON or TSV) that
        names the case of each file; None looks for it in the folder and beside it.
    rna_key
        Inside an ``.h5ad``: ``X`` or ``layers/NAME``; inside an ``.h5mu``: the modality.
    sample_types
        TCGA sample types that may stand for a case, the preferred first: 01 primary tumour, 06
        metastasis, 03 and 09 blood. Normal tissue (10 and up) never may.
    aliquots
        Which of several aliquots stands for its case: ``published`` prefers analyte H, then R, then
        T, then the later plate, then the highest barcode; ``mean`` of all; the ``first`` of the
        table; or ``refuse``.
    duplicate_genes
        ``refuse``, ``sum`` (of the linear values) or ``mean``.
    gene_ids
        ``auto`` keeps the names of the table, or takes symbols where the table itself or
        ``gene_map`` gives them; ``ensembl`` keeps Ensembl ids; ``symbol`` insists on symbols.
    gene_map
        Table of gene ids and symbols, such as a Xena probemap.
    gene_list
        Names of the genes, one a line, for vectors that carry none.
    restrict_genes_to
        A list of genes or an RNA table: genes that it lacks are left out before any fold chooses.
    impute
        ``refuse`` missing values, or ``train_median``: in each fold, the median of its training
        cases.
    """

    rna_scale: Scale = "auto"
    rna_samples: Path | None = None
    rna_key: str | None = None
    sample_types: tuple[str, ...] = Field(("01",), min_length=1)
    aliquots: Aliquots = "published"
    duplicate_genes: Literal["refuse", "sum", "mean"] = "refuse"
    gene_ids: Literal["auto", "ensembl", "symbol"] = "auto"
    gene_map: Path | None = None
    gene_list: Path | None = None
    restrict_genes_to: Path | None = None
    impute: Literal["refuse", "train_median"] = "refuse"

    @field_validator("sample_types", mode="before")
    @classmethod
    def _two_digits(cls, value: Any) -> Any:
        """Give types their two digits back: YAML reads 01 and 06 as numbers."""
        values = value if isinstance(value, list | tuple) else [value]
        return [f"{v:02d}" if isinstance(v, int) else v for v in values]

    @field_validator("sample_types")
    @classmethod
    def _tumour_only(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        strange = [v for v in value if v not in SAMPLE_TYPES]
        if strange:
            raise ValueError(f"{strange[0]} is no type of tumour sample, wanted 01 to 09")
        return tuple(dict.fromkeys(value))
