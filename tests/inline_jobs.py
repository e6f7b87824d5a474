"""Fold jobs without processes: trainings one after another, for tests of what is around."""

from collections.abc import Sequence
from typing import Any

from momkd.types import Cohort
from momkd.workflows.fold_job import FoldJob, run_fold
from momkd.workflows.settings import Settings
from momkd.workflows.tabular_job import run_tabular


def run_inline(jobs: Sequence[FoldJob], cohort: Cohort, settings: Settings, **_: Any) -> None:
    """Stand in for ``run_jobs``."""
    for job in jobs:
        (run_tabular if job.choice.is_tabular else run_fold)(job, cohort, settings)
