"""The forms in which RNA tables come, in the order in which they are asked."""

from dataclasses import dataclass
from pathlib import Path

from momkd.data.rna.annotated import AnnotatedMatrix
from momkd.data.rna.case_tables import AnyWideTable, Mcat, SurvPath
from momkd.data.rna.cbioportal import CBioPortal
from momkd.data.rna.published_momkd import MomkdTable, MomkdVectors
from momkd.data.rna.raw_table import Look, RnaForm
from momkd.data.rna.star import StarFolder
from momkd.data.rna.xena import XenaGdc, XenaLegacy
from momkd.errors import DataError

FORMS: tuple[RnaForm, ...] = (
    *(AnnotatedMatrix(), StarFolder(), MomkdVectors()),
    *(XenaGdc(), XenaLegacy(), CBioPortal(), Mcat(), SurvPath(), MomkdTable()),
    AnyWideTable(),
)
"""Every form, the general one last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """The form of a source, and by what it was recognised."""

    form: RnaForm
    why: str


def recognise_rna(path: Path) -> Recognised:
    """Tell the form of an RNA table by its content.

    Raises
    ------
    DataError
        O14 an orientation that cannot be told, O16 nothing that can be read.
    """
    look = Look(path)
    for form in FORMS:
        why = form.recognise(look)
        if why is not None:
            return Recognised(form=form, why=why)
    what = "is a folder without STAR files (*.tsv, *.tsv.gz) and without .npy vectors"
    raise DataError.of("O16", str(path), what, "give a table, or a folder of one of these")
