"""TCGA barcodes, parsed in one place; ids of other kinds pass untouched.

``TCGA-02-0001-01C-01D-0182-01``: project, tissue source site, participant, sample and vial, portion
and analyte, plate, centre; of a slide ``TCGA-02-0001-01Z-00-DX1.<UUID>``. The case is the first 12
characters. R turns the dashes of column names into dots; both are read.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

SLIDE_KINDS = {
    "DX": "diagnostic, fixed in formalin",
    "TS": "frozen, top",
    "MS": "frozen, middle",
    "BS": "frozen, bottom",
}
"""Kinds of TCGA slides."""

SAMPLE_TYPES = {
    "01": "primary solid tumour",
    "02": "recurrent solid tumour",
    "03": "primary blood-derived cancer, peripheral blood",
    "04": "recurrent blood-derived cancer, bone marrow",
    "05": "further new primary tumour",
    "06": "metastasis",
    "07": "further metastasis",
    "08": "human tumour, original cells",
    "09": "primary blood-derived cancer, bone marrow",
}
"""Sample types that are tumour; 10 to 19 are normal, 20 to 29 controls."""

_BARCODE = re.compile(
    r"^TCGA[-.](?P<site>[A-Z0-9]{2})[-.](?P<participant>[A-Z0-9]{4})"
    r"(?:[-.](?P<sample>\d{2})(?P<vial>[A-Z])?"
    r"(?:[-.](?P<portion>\d{2})(?:(?P<analyte>[A-Z])"
    r"(?:[-.](?P<plate>[A-Z0-9]{4})(?:[-.](?P<centre>\d{2}))?)?)?)?)?(?=$|[-.])",
    re.I | re.A,
)
_SLIDE = re.compile(r"[-.](DX|TS|MS|BS)[A-Z0-9]*(?=$|[-.])", re.I | re.A)
_PRIMARY = ("01", "03", "09")  # solid tumour, and blood


@dataclass(frozen=True, slots=True, kw_only=True)
class Barcode:
    """What a TCGA barcode says; None where it stops before.

    ``slide_kind`` is a key of :data:`SLIDE_KINDS`, of a slide's barcode only.
    """

    case_id: str
    site: str
    sample_type: str | None
    vial: str | None = None
    portion: str | None = None
    analyte: str | None = None
    plate: str | None = None
    centre: str | None = None
    slide_kind: str | None = None

    @property
    def is_primary(self) -> bool:
        """Say whether it is primary tumour (01, or 03 and 09 for blood), or only a case."""
        return self.is_of(_PRIMARY)

    @property
    def is_tumour(self) -> bool:
        """Say whether it is tumour of any kind (01 to 09), or only a case; 10 and up are not."""
        return self.sample_type is None or self.sample_type < "10"

    def is_of(self, sample_types: Collection[str]) -> bool:
        """Say whether it is of one of these sample types, or only a case."""
        return self.sample_type is None or self.sample_type in sample_types


def parse_barcode(text: str) -> Barcode | None:
    """Parse a barcode; None for an id of another kind."""
    trimmed = text.strip()
    found = _BARCODE.match(trimmed)
    if found is None:
        return None
    parts = {name: part and part.upper() for name, part in found.groupdict().items()}
    slide = _SLIDE.search(trimmed, found.end())
    return Barcode(
        case_id=f"TCGA-{parts['site']}-{parts['participant']}",
        site=parts["site"] or "",
        sample_type=parts["sample"],
        vial=parts["vial"],
        portion=parts["portion"],
        analyte=parts["analyte"],
        plate=parts["plate"],
        centre=parts["centre"],
        slide_kind=None if slide is None else slide[1].upper(),
    )


def case_of(text: str) -> str:
    """Give the case of a barcode, or the id itself, trimmed."""
    found = parse_barcode(text)
    return text.strip() if found is None else found.case_id


def slide_kind_of(slide_id: str) -> str | None:
    """Give the kind of a TCGA slide (``DX``, ``TS``, ``MS``, ``BS``); None where it says none."""
    found = parse_barcode(slide_id)
    return None if found is None else found.slide_kind
