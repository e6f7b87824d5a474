"""What a run folder knows that a guideline may ask for, read once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from momkd.errors import ModelError
from momkd.serving.card import Card, parse_card, read_config
from momkd.workflows.frozen_protocol import FrozenProtocol
from momkd.workflows.report_flow import LeftOut, SideCount, read_left_out
from momkd.workflows.report_sources import PageSources


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunFacts:
    """What is known of a run.

    Parameters
    ----------
    manifest, configuration
        Content of ``run.json`` and ``config.yaml``.
    metrics, cases, comparison
        As the page has them; None where nothing is scored or compared.
    cohort, left_out, sides
        Who is used, who is not, and who stands where.
    n_panels
        Gene panels that trainings recorded.
    cards
        The first card of each model whose predictors can be read.
    external
        Figures by name of external cohort.
    protocol
        What was frozen beforehand, where something was.
    n_heatmaps
        Pictures of attention or evidence in the run folder.
    """

    manifest: Mapping[str, Any]
    configuration: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    cases: pd.DataFrame | None
    comparison: Mapping[str, Any] | None
    cohort: pd.DataFrame | None
    left_out: Sequence[LeftOut]
    sides: Sequence[SideCount]
    n_panels: int
    cards: Mapping[str, Card]
    external: Mapping[str, Mapping[str, Any]]
    n_heatmaps: int
    protocol: FrozenProtocol | None = None

    def setting(self, *keys: str) -> Any:
        """Give a value of the configuration; None where it is not set."""
        found: Any = self.configuration
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    @property
    def number(self) -> dict[str, int]:
        """Counts of ``run.json`` by what they count."""
        return {str(row["what"]): int(row["n"]) for row in self.manifest["counts"]}

    @property
    def has_tests(self) -> bool:
        """Whether anybody was kept for testing."""
        return any(row["side"] == "test" and row["cases"] for row in self.manifest["folds"])

    @property
    def statements(self) -> list[str]:
        """What was verified of the folds."""
        return [str(s) for s in (self.manifest.get("proof") or {}).get("statements", ())]

    def said(self, *beginnings: str) -> str:
        """Give the first statement of the proof that begins so; empty where none does."""
        return next((s for s in self.statements if s.startswith(beginnings)), "")


def gather_facts(of: PageSources) -> RunFacts:
    """Read what the page of a run is made from, and the predictors beside it."""
    folder, cohort = of.configuration.parent, of.read_cohort()
    return RunFacts(
        manifest=of.manifest,
        configuration=of.read_configuration(),
        metrics=of.metrics,
        cases=of.cases,
        comparison=of.comparison,
        cohort=cohort,
        left_out=read_left_out(of.dropped),
        sides=of.count_sides(cohort),
        n_panels=of.count_panels(),
        cards=_read_cards(folder, of.manifest),
        external=_read_external(folder),
        n_heatmaps=sum(1 for _ in folder.glob("*heatmaps/**/*.png")),
        protocol=of.protocol,
    )


def _read_cards(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Card]:
    found: dict[str, Card] = {}
    jobs = [(str(job).split("/")[0], str(job)) for job in manifest.get("jobs", ())]
    for model, job in jobs or [(str(name), ".") for name in manifest["models"]]:
        path = folder / job / "predictor" / "config.json"
        if model in found or not path.exists():
            continue
        try:
            found[model] = parse_card(read_config(path), str(path))
        except ModelError:
            continue  # then the items that need it say that no predictor can be read
    return found


def _read_external(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.glob("external-*/metrics.json")):
        try:
            found[path.parent.name.removeprefix("external-")] = json.loads(path.read_text("utf-8"))
        except ValueError:
            continue  # as if it had not been scored: the item says that none was
    return found
