"""``momkd simulate``: a cohort with known truth, as files that every other verb takes."""

import difflib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from momkd.config import OptionsT, override, parse_options
from momkd.errors import ConfigError, MachineError, MomkdError
from momkd.simulation import (
    AS_THEY_COME,
    SCENARIOS,
    PaintingOptions,
    RecordOptions,
    SimulatedCohort,
    SimulationOptions,
    write_cohort,
    write_slide_cohort,
)
from momkd.simulation import simulate as draw_cohort
from momkd.storage import write_text
from momkd.workflows.console import count_files

_UNPAIRED: dict[str, Any] = {"without_rna": 0.05, "without_slide": 0.05}
_CONFIG = {
    "data": {
        "features": "features",
        "clinical": "clinical.csv",
        "rna": "rna.csv.gz",
        "target": {
            "column": "biomarker",
            "positive": "positive",
            "negative": "negative",
            "exclude": ["equivocal"],
        },
    },
    "model": {"name": "momkd"},
}


class SimulatedFiles(SimulationOptions, RecordOptions, PaintingOptions):
    """All that ``--set`` may change: the world, how tables are written, how slides are painted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationReport:
    """What was written: where, how many of each, what can be known at best, and what comes next.

    ``ceilings`` are AUROCs; those ``on_these_slides`` are of the exact posterior on this very
    cohort, the others hold for the law.
    """

    folder: Path
    config: Path
    counts: dict[str, int]
    ceilings: dict[str, float | None]
    next_steps: tuple[str, ...]


def simulate(
    scenario: str,
    output: Path | str,
    *,
    cases: int | None = None,
    seed: int = 0,
    world: int = 0,
    set_: Sequence[str] = (),
    slides: bool = False,
) -> SimulationReport:
    """Write a simulated cohort as files: features or slides, RNA, labels, truth, momkd.yaml.

    Tables are written as users have them (:data:`momkd.simulation.AS_THEY_COME`), and 5 % of the
    cases lack their RNA, 5 % their slide, unless the scenario or ``set_`` says otherwise. To draw a
    cohort without writing it, see :func:`momkd.simulation.simulate`.

    Parameters
    ----------
    scenario
        A key of :data:`momkd.simulation.SCENARIOS`.
    output
        A folder that is absent or empty; it appears whole or not at all.
    cases
        Number of cases; default 1,000.
    seed, world
        Of the cohort, and of the world it is drawn from: cohorts of one world show one biology.
    set_
        ``KEY=VALUE`` of :class:`SimulatedFiles`.
    slides
        Paint slides as pyramidal TIFF instead of drawing their embeddings.

    Raises
    ------
    ConfigError
        G03, G04 an unknown scenario, option or value; G08 the folder is not empty.
    MachineError
        E01 tifffile is not installed (slides); X10 the folder cannot be written.
    """
    if scenario not in SCENARIOS:
        near = difflib.get_close_matches(scenario, SCENARIOS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        remedy = f"{hint}there are: {', '.join(SCENARIOS)}"
        raise ConfigError.of("G04", "SCENARIO", f"got {scenario!r}", remedy)
    given = _tables(override({}, set_)) | _UNPAIRED | SCENARIOS[scenario]
    given |= {"seed": seed, "world": world} | ({} if cases is None else {"n_cases": cases})
    options = parse_options(SimulatedFiles, override(given, set_), f"scenario {scenario}")
    _require_used(options, set_, slides)
    folder = Path(output)
    _require_empty(folder)
    cohort = draw_cohort(_part(SimulationOptions, options))
    record, painting = _part(RecordOptions, options), _part(PaintingOptions, options)

    def write(into: Path, on_slide: Callable[[], None]) -> None:
        if slides:
            write_slide_cohort(cohort, into, painting, record, on_slide=on_slide)
        else:
            write_cohort(cohort, into, record, on_slide=on_slide)
        write_text(into / "momkd.yaml", _config(scenario, options))

    with count_files("painting slides" if slides else "writing feature files") as counter:
        counter.start(len(cohort.slides))
        _write_whole(folder, lambda into: write(into, counter.advance))
    return _report(folder, cohort, painting if slides else None)


def tell_simulation(report: SimulationReport) -> list[str]:
    """Say what was written, and what comes next."""
    counts = ", ".join(f"{n} {what}" for what, n in report.counts.items())
    known = [
        f"  {name.replace('_', ' ')}: {value:.3f}"
        for name, value in report.ceilings.items()
        if value is not None
    ]
    return [
        f"{report.folder}: {counts}",
        "best AUROC that can be reached, by what is known of a case:",
        *known,
        "Simulated cases: figures on them say nothing of real ones, and share no table with them.",
        *(f"next: {step}" for step in report.next_steps),
    ]


def _tables(changed: Mapping[str, Any]) -> dict[str, Any]:
    """Give how tables are written by default; samples cannot be told apart without barcodes."""
    usual = AS_THEY_COME.model_dump()
    if changed.get("barcodes") is False:
        return {k: v for k, v in usual.items() if k not in ("aliquots", "other_samples")}
    return usual


def _part(cls: type[OptionsT], options: BaseModel) -> OptionsT:
    return cls.model_validate({name: getattr(options, name) for name in cls.model_fields})


def _require_used(options: SimulatedFiles, set_: Sequence[str], slides: bool) -> None:
    """Refuse to be told how to paint what is not painted."""
    keys = {text.partition("=")[0] for text in set_}
    unused = sorted(keys & set(PaintingOptions.model_fields)) if not slides else []
    if unused:
        what = f"{', '.join(unused)}: of painted slides, and none are painted"
        raise ConfigError.of("G04", "--set", what, "add --slides, or leave it out")


def _require_empty(folder: Path) -> None:
    try:
        filled = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise _unwritable(folder, error) from error
    if filled:
        what = "is a folder that is not empty" if folder.is_dir() else "is a file"
        raise ConfigError.of("G08", str(folder), what, "choose another -o")


def _write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder beside the place, then put it there."""
    place = folder.resolve()
    new = place.with_name(f".{place.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        write(new)
        if place.exists():
            for child in sorted(new.iterdir()):
                child.rename(place / child.name)
        else:
            new.rename(place)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> MomkdError:
    what = f"cannot be written: {error.strerror or error}"
    return MachineError.of("X10", str(folder), what, "free space or choose another -o")


def _config(scenario: str, options: SimulatedFiles) -> str:
    text = yaml.safe_dump(_CONFIG, sort_keys=False)
    origin = f"scenario {scenario}, world {options.world}, seed {options.seed}"
    return f"# Simulated cases ({origin}); what is hidden of them stands in truth.json.\n{text}"


def _report(
    folder: Path, cohort: SimulatedCohort, painting: PaintingOptions | None
) -> SimulationReport:
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    config = folder / "momkd.yaml"
    steps = [f"momkd check -c {config}"]
    if painting is not None:
        scale = f"--tile-px {painting.tile_px} --view-mpp {painting.mpp:g}"
        steps.insert(0, f"momkd extract {folder / 'slides'} -o {folder / 'features'} {scale}")
    return SimulationReport(
        folder=folder,
        config=config,
        counts={
            "cases": len(cohort.case_ids),
            "slides": len(cohort.slides),
            "cases with RNA": int(cohort.has_rna.sum()),
            "cases recorded positive": int((cohort.labels & ~cohort.equivocal).sum()),
            "cases equivocal": int(cohort.equivocal.sum()),
        },
        ceilings=truth["ceilings"],
        next_steps=tuple(steps),
    )
