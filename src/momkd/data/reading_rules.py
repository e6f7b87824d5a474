"""How the feature files of a cohort are to be read, from its configuration."""

from pathlib import Path

from momkd.data.cohort import DataOptions
from momkd.data.delimited import SLIDE_COLUMNS, is_blank, read_table
from momkd.data.layouts.material import ReadRules, slide_id_of
from momkd.errors import DataError

MPP_COLUMN = "mpp"


def read_rules(options: DataOptions) -> ReadRules:
    """Give the rules that a ``data`` block states.

    Raises
    ------
    DataError
        F40, O16 the table of resolutions cannot be used.
    """
    told = options.slide_mpp
    return ReadRules(
        feature_key=options.feature_key,
        drop_nonfinite=options.on_nonfinite == "drop",
        coords_dir=options.coords,
        mpp0=read_slide_mpp(told) if isinstance(told, Path) else told,
    )


def read_slide_mpp(path: Path) -> dict[str, float]:
    """Read slide -> micrometres per level-0 pixel; slides with a blank cell are left out.

    Raises
    ------
    DataError
        O16 no table; F40 a column missing, or values that are no resolution.
    """
    table = read_table(path)
    known = {c.casefold(): c for c in table.columns}
    slide = next((known[c] for c in SLIDE_COLUMNS if c in known), None)
    if slide is None or MPP_COLUMN not in known:
        what = f"wants a slide column and '{MPP_COLUMN}', has {', '.join(table.columns[:8])}"
        raise DataError.of("F40", str(path), what, "name them slide_id and mpp")
    found = {}
    for name, text in zip(table.column(slide), table.column(known[MPP_COLUMN]), strict=True):
        if is_blank(text):
            continue
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0.01 < value < 100:
            what = f"mpp of slide {name} is {text!r}, wanted um per level-0 pixel"
            raise DataError.of("F40", str(path), what, "mend it or leave it blank")
        found[slide_id_of(Path(name))] = value
    return found
