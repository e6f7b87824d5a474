"""TCGA barcodes, parsed in one place; ids of other kinds pass untouched.

``TCGA-02-0001-01C-01D-0182-01``: project, tissue source site, participant, sample and vial, portion
and analyte, plate, centre. The case is the first 12 characters. R turns the dashes of column names
into dots; both are read.
"""

import re
from dataclasses import dataclass

_BARCODE = re.compile(
    r"^TCGA[-.]([A-Z0-9]{2})[-.]([A-Z0-9]{4})(?:[-.](\d{2})([A-Z])?)?(?=$|[-.])", re.I | re.A
)
_FROZEN = re.compile(r"-(TS|MS|BS)[A-Z0-9]*(?=$|[-.])", re.I)
_PRIMARY = ("01", "03", "09")  # solid tumour, and blood


@dataclass(frozen=True, slots=True, kw_only=True)
class Barcode:
    """What a TCGA barcode says; ``sample_type`` None where it stops at the case."""

    case_id: str
    site: str
    sample_type: str | None

    @property
    def is_primary(self) -> bool:
        """Say whether it is primary tumour (01, or 03 and 09 for blood), or only a case."""
        return self.sample_type is None or self.sample_type in _PRIMARY

    @property
    def is_tumour(self) -> bool:
        """Say whether it is tumour of any kind (01 to 09), or only a case; 10 and up are not."""
        return self.sample_type is None or self.sample_type < "10"


def parse_barcode(text: str) -> Barcode | None:
    """Parse a barcode; None for an id of another kind."""
    found = _BARCODE.match(text.strip())
    if found is None:
        return None
    site, participant = found[1].upper(), found[2].upper()
    return Barcode(case_id=f"TCGA-{site}-{participant}", site=site, sample_type=found[3])


def case_of(text: str) -> str:
    """Give the case of a barcode, or the id itself, trimmed."""
    found = parse_barcode(text)
    return text.strip() if found is None else found.case_id


def is_frozen_section(slide_id: str) -> bool:
    """Say whether a TCGA slide is a frozen section: top, middle or bottom, not diagnostic (DX)."""
    return parse_barcode(slide_id) is not None and _FROZEN.search(slide_id) is not None
