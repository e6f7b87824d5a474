"""The part of a report about a search: what its trials brought on validation."""

from collections.abc import Mapping
from typing import Any

from momkd.reporting.page import Row, Section, Table, Words


def search_section(
    manifest: Mapping[str, Any], metrics: Mapping[str, Any] | None
) -> Section | None:
    """Tell what a search did, and the best validation score by budget; None without a search."""
    searches = (metrics or {}).get("search")
    if not searches:
        return None
    of = manifest.get("search") or {}
    about = (
        "Before each training of a fold, options were tried on its training side and scored on its "
        f"validation side ({of.get('score', 'validation score')}; {of.get('sampler', 'TPE')}). "
        "Test cases had no part in it. Trial 1 is of the options as they stand; all models had "
        "equally many trials. Scores are those that options were chosen by: they rise with the "
        "budget even where nothing is gained, and are no estimate of accuracy."
    )
    curve = Table(
        caption="Best validation score after so many trials, mean over trainings",
        rows=[_curve(name, entry) for name, entry in searches.items()],
    )
    budget = Table(
        caption="What the search cost, and how often no trial was better than the first",
        rows=[
            {
                "model": name,
                "trainings": entry["fits"],
                "trials each": entry["trials"],
                "failed trials": entry["failed"],
                "first trial kept": f"{entry['defaults_kept']} of {entry['fits']}",
                "hours": entry["seconds"] / 3600,
            }
            for name, entry in searches.items()
        ],
    )
    return Section(title="Search for options", parts=[Words(lines=[about]), curve, budget])


def _curve(name: str, entry: Mapping[str, Any]) -> Row:
    row: dict[str, Any] = {"model": name}
    for point in entry["curve"]:
        n = point["trials"]
        row[f"{n} trial{'s' if n > 1 else ''}"] = point["best_validation_score"]
    return row
