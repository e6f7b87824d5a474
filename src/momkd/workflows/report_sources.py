"""What the page and the checklists of a run are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from momkd.reporting.page import Picture, Section
from momkd.workflows.frozen_protocol import FrozenProtocol
from momkd.workflows.report_flow import SideCount, count_sides, read_cohort
from momkd.workflows.report_training import Trainings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PageSources:
    """What a page is made from.

    Parameters
    ----------
    manifest, metrics
        Content of ``run.json`` and ``metrics.json``; no metrics where nothing is scored yet.
    cases
        Case-level scores: model, seed, fold, case_id, y_true, probability, threshold.
    dropped, configuration, cohort
        The ``dropped.csv``, ``config.yaml`` and ``cohort.csv`` of the cohort in question; a cohort
        that is not there is passed over.
    trainings
        What the trainings left; none of an external cohort.
    comparison
        Content of ``comparison.json``, where there is one.
    protocol
        What was frozen of the run, where something was.
    extra_tables, examples, atlas, pictures
        Shown beside the rest.
    n_cases
        How many of the worst predicted cases are listed; none unless asked, for such a page names
        patients.
    """

    manifest: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    cases: pd.DataFrame | None
    dropped: Path
    configuration: Path
    cohort: Path | None = None
    trainings: Trainings | None = None
    comparison: Mapping[str, Any] | None = None
    extra_tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    examples: Section | None = None
    atlas: Section | None = None
    pictures: Sequence[Picture] = ()
    alarms: Sequence[str] = ()
    protocol: FrozenProtocol | None = None
    n_cases: int = 0

    def count_panels(self) -> int:
        """Give how many finished trainings recorded a gene panel."""
        if self.trainings is None:
            return 0
        if not self.trainings.n_jobs:  # momkd train: the only training is the folder itself
            return int((self.configuration.parent / "panel.json").exists())
        return sum(fit.has_panel for fit in self.trainings.fits)

    def read_cohort(self) -> pd.DataFrame | None:
        """Read the cohort as text; None where there is none."""
        return None if self.cohort is None else read_cohort(self.cohort)

    def count_sides(self, cohort: pd.DataFrame | None) -> list[SideCount]:
        """Count by class what stands on each side of the folds; nothing without folds."""
        if not self.manifest["folds"]:
            return []
        return count_sides(self.dropped.with_name("folds.csv"), cohort)

    def read_configuration(self) -> dict[str, Any]:
        """Read ``config.yaml``."""
        return yaml.safe_load(self.configuration.read_text(encoding="utf-8")) or {}
