"""How thoroughly the paper's results are made again: budget, repeats and sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from momkd.errors import ConfigError
from momkd.storage import write_text
from momkd.workflows.settings import Settings

COMMON_BUDGET: dict[str, Any] = {
    "epochs": 50,
    "patience": 10,
    "smoothing": 0.4,
    "select": "auroc",
    "optimizer": "adamw",
    "lr": 2.0e-4,
    "weight_decay": 1.0e-4,
    "batch_size": 16,
    "schedule": "plateau",
    "balanced": True,
    "clip_norm": 16.0,
}
"""One budget for all methods, that of ``recipes/common-budget.yaml``: TDC and MKD need a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A depth.

    Parameters
    ----------
    seeds
        Repeats, unless ``--seeds`` says otherwise.
    sizes
        Slots a class of figure S1.
    over
        Blocks laid over the configuration; only ``--set`` and ``--folds`` stand above them.
    options
        Options of a method by its name, where it has a budget of its own.
    warning
        Said first on every page; empty where figures may be taken at their word.
    """

    name: str
    seeds: int
    sizes: tuple[int, ...]
    over: Mapping[str, Any]
    options: Mapping[str, Mapping[str, Any]]
    warning: str

    def statement(self, settings: Settings, n_seeds: int) -> str:
        """Say the budget as it came out, in words for every page."""
        fit = settings.fit
        folds = settings.folds
        split = f"{folds.n} folds" if folds.scheme == "k_fold" else "a fold a site"
        if folds.file is not None:
            split = "given folds"
        seeds = "1 seed" if n_seeds == 1 else f"{n_seeds} seeds"
        return (
            f"Profile {self.name}: at most {fit.epochs} epochs (patience {fit.patience}), "
            f"{fit.batch_size} slides a step, {split}, {seeds}."
        )


PROFILES = {
    "full": Profile(
        name="full",
        seeds=5,
        sizes=(2, 4, 8, 16, 32, 64),
        over={},
        options={},
        warning="",
    ),
    "quick": Profile(
        name="quick",
        seeds=1,
        sizes=(2, 16, 64),
        over={"fit": {"epochs": 4, "patience": 4}, "folds": {"n": 3}},
        options={"tdc": {"teacher": {"epochs": 4}}},
        warning="It shows that the road is whole: no figure here says how good a method is.",
    ),
}


def choose_profile(name: str) -> Profile:
    """Find a profile.

    Raises
    ------
    ConfigError
        G07 there is none of that name.
    """
    if name not in PROFILES:
        what = f"got {name!r}, wanted {' or '.join(PROFILES)}"
        raise ConfigError.of("G07", "--profile", what)
    return PROFILES[name]


def lay_profile(folder: Path, profile: Profile, configs: Sequence[Path]) -> tuple[Path, ...]:
    """Write a profile as configuration files; give all files in the order that they are merged.

    The common budget lies below the user's files, which may change it; what a profile insists on
    lies above them.
    """
    below = folder / "common-budget.yaml"
    write_text(below, yaml.safe_dump({"fit": COMMON_BUDGET}, sort_keys=False))
    if not profile.over:
        return (below, *configs)
    above = folder / f"profile-{profile.name}.yaml"
    write_text(above, yaml.safe_dump(dict(profile.over), sort_keys=False))
    return (below, *configs, above)
