"""Expression tables of cBioPortal studies: ``Hugo_Symbol``, ``Entrez_Gene_Id``, then samples."""

from dataclasses import dataclass
from pathlib import Path

from momkd.data.delimited import plain_name
from momkd.data.rna.options import RnaOptions
from momkd.data.rna.raw_table import Look, RawTable
from momkd.data.rna.wide_table import read_wide_table


@dataclass(frozen=True, slots=True)
class CBioPortal:
    """``data_mrna_seq_v2_rsem.txt``, linear, and its ``zscores`` variants."""

    name: str = "cBioPortal expression"

    def recognise(self, look: Look) -> str | None:
        """By the names of the first two columns."""
        if look.is_folder:
            return None
        names = [plain_name(c) for c in look.columns[:2]]
        if names != ["hugosymbol", "entrezgeneid"] and names[::-1] != [
            "hugosymbol",
            "entrezgeneid",
        ]:
            return None
        scale = _scale_of(look.path)
        said = f"its name says {scale}" if scale else "its name does not say the scale"
        return f"columns Hugo_Symbol and Entrez_Gene_Id; {said}"

    def read(self, path: Path, options: RnaOptions) -> RawTable:
        """Read it as a wide table on the scale that its name tells."""
        return read_wide_table(path, options, scale=_scale_of(path))


def _scale_of(path: Path) -> str | None:
    name = path.name.casefold()
    if "zscore" in name:
        return "zscore"
    return "rsem" if "rsem" in name else None
