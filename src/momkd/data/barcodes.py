"""TCGA barcodes, parsed in one place; ids of other kinds pass untouched.

``TCGA-02-0001-01C-01D-0182-01``: project, tissue source site, participant, sample and vial, portion
and analyte, plate, centre. The case is the first 12 characters.
"""

import re
from dataclasses import dataclass

_BARCODE = re.compile(r"^(TCGA-([A-Z0-9]{2})-[A-Z0-9]{4})(?:-(\d{2})([A-Z])?)?(?=$|[-.])", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Barcode:
    """What a TCGA barcode says; ``sample_type`` None where it stops at the case."""

    case_id: str
    site: str
    sample_type: str | None

    @property
    def is_primary(self) -> bool:
        """Say whether it is primary tumour (01, or 03 and 09 for blood), or only a case."""
        return self.sample_type in (None, "01", "03", "09")


def parse_barcode(text: str) -> Barcode | None:
    """Parse a barcode; None for an id of another kind."""
    found = _BARCODE.match(text)
    if found is None:
        return None
    return Barcode(case_id=found[1].upper(), site=found[2].upper(), sample_type=found[3])


def case_of(text: str) -> str:
    """Give the case of a barcode, or the id itself."""
    found = parse_barcode(text)
    return text if found is None else found.case_id
