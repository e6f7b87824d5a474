"""How a cohort is written down: by default plainly, or with the disorder of tables as they come.

Nothing here changes what is true of a case. With barcodes, ids have the form of TCGA's: a site of
two characters and a participant of four, the first a letter from B on (participants of TCGA-BRCA
begin with A), so that none can be taken for a patient.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32
from pydantic import Field, model_validator

from momkd.config import Options
from momkd.errors import ConfigError
from momkd.simulated.cohort import SimulatedCohort
from momkd.simulated.rna import draw_rna

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TWO = 36**2  # what two characters tell apart
_FIRST_LETTER, _N_PARTICIPANTS = 11, 25 * 36**3
_A_COHORT = 10_000  # ids of cohorts up to this size differ from seed to seed
_METASTASIS, _NORMAL = "06", "11"


class RecordOptions(Options):
    """How the tables are written; the defaults write them plainly.

    Parameters
    ----------
    barcodes
        Ids of cases, slides and RNA samples have the form of TCGA's.
    aliquots
        Share of the cases with RNA that have a second sample of their tumour. It shows the same
        programmes with noise of its own, and by its barcode the published rule passes it over.
    other_samples
        Share of the cases with RNA that also have a sample of a metastasis (06) or of normal
        tissue (11), in turn. A metastasis shows the case's programmes, normal tissue none.
    duplicate_rows
        Share of the clinical table's rows that stand twice, the label spelt otherwise.
    counts
        RNA as whole counts, 2^x - 1 rounded, instead of log2 expression.
    """

    barcodes: bool = False
    aliquots: float = Field(0.0, ge=0, le=1)
    other_samples: float = Field(0.0, ge=0, le=1)
    duplicate_rows: float = Field(0.0, ge=0, le=1)
    counts: bool = False

    @model_validator(mode="after")
    def _samples_are_told_apart_by_barcodes(self) -> "RecordOptions":
        if not self.barcodes and (self.aliquots or self.other_samples):
            raise ValueError("aliquots and other_samples are told apart by barcodes=true")
        return self


AS_THEY_COME = RecordOptions(
    barcodes=True, aliquots=0.1, other_samples=0.06, duplicate_rows=0.03, counts=True
)
"""Tables as users have them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RnaSamples:
    """Rows of the RNA table, in its order: log expression."""

    id_column: str
    ids: tuple[str, ...]
    values: Float32[np.ndarray, "n_samples n_genes"]


def name_by_barcodes(cohort: SimulatedCohort) -> SimulatedCohort:
    """Give the same cohort under ids of TCGA's form, slides as diagnostic ones (DX1, DX2).

    Raises
    ------
    ConfigError
        G04 a site whose number two characters cannot hold.
    """
    options = cohort.options
    last = options.first_site + options.n_sites - 1
    if last >= _TWO:
        what = f"the last site would be number {last}, barcodes hold {_TWO - 1} at most"
        raise ConfigError.of("G04", "first_site", what, "fewer sites, or barcodes=false")
    case_ids = tuple(
        f"TCGA-{_base36(options.first_site + int(site), 2)}-"
        f"{_participant(options.seed * _A_COHORT + number)}"
        for number, site in enumerate(cohort.sites)
    )
    slides = []
    for slide in cohort.slides:
        place = 1 + "AB".index(slide.slide_id[-1])
        slides.append(replace(slide, slide_id=f"{case_ids[slide.case]}-01Z-00-DX{place}"))
    return replace(cohort, case_ids=case_ids, slides=tuple(slides))


def draw_samples(cohort: SimulatedCohort, record: RecordOptions) -> RnaSamples:
    """Give the rows of the RNA table.

    Each case's own RNA comes first by the published rule (its plate is the later one), wherever
    its row stands.
    """
    cases = np.flatnonzero(cohort.has_rna)
    if not record.barcodes:
        ids = tuple(cohort.case_ids[case] for case in cases)
        return RnaSamples(id_column="case_id", ids=ids, values=cohort.rna[cases])
    options, world = cohort.options, cohort.world
    rng = np.random.default_rng([5, options.world, options.seed])
    again = rng.permutation(cases)[: round(record.aliquots * len(cases))]
    beside = rng.permutation(cases)[: round(record.other_samples * len(cases))]
    is_normal = np.arange(len(beside)) % 2 == 1
    programmes = cohort.programmes[beside] * ~is_normal[:, None]
    values = [
        cohort.rna[cases],
        *(
            draw_rna(z, world.site_genes[cohort.sites[of]], world, options, rng)
            for z, of in ((cohort.programmes[again], again), (programmes, beside))
        ),
    ]
    kinds = [_METASTASIS, _NORMAL]
    named = [
        *((case, "01", "A2") for case in cases),
        *((case, "01", "A1") for case in again),
        *((case, kinds[int(normal)], "A1") for case, normal in zip(beside, is_normal, strict=True)),
    ]
    barcodes = [_sample_id(cohort.case_ids[c], kind, plates, rng) for c, kind, plates in named]
    order = rng.permutation(len(barcodes))
    return RnaSamples(
        id_column="sample_id",
        ids=tuple(barcodes[i] for i in order),
        values=np.concatenate(values)[order],
    )


def repeat_rows(
    rows: list[tuple[str, str, str, str]], cohort: SimulatedCohort, record: RecordOptions
) -> list[tuple[str, str, str, str]]:
    """Let some rows of the clinical table stand twice, the label, last, spelt otherwise."""
    n_twice = round(record.duplicate_rows * len(rows))
    rng = np.random.default_rng([6, cohort.options.world, cohort.options.seed])
    found = list(rows)
    for number in sorted(rng.permutation(len(rows))[:n_twice].tolist(), reverse=True):
        case_id, slide_id, site, label = rows[number]
        place = int(rng.integers(number + 1, len(found) + 1))
        found.insert(place, (case_id, slide_id, site, label.capitalize()))
    return found


def _sample_id(case_id: str, kind: str, plates: str, rng: np.random.Generator) -> str:
    return f"{case_id}-{kind}A-11R-{plates}{_base36(int(rng.integers(_TWO)), 2)}-07"


def _participant(number: int) -> str:
    first, rest = divmod(number % _N_PARTICIPANTS, 36**3)
    return _DIGITS[_FIRST_LETTER + first] + _base36(rest, 3)


def _base36(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, last = divmod(number, 36)
        digits.append(_DIGITS[last])
    return "".join(reversed(digits))
