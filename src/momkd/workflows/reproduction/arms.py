"""The arms of a reproduction: which model, with which options; equal settings are one arm."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momkd.config import merge
from momkd.data.controls import RNAControl
from momkd.storage import canonical_json, digest_bytes
from momkd.workflows.audit import AuditedCohort
from momkd.workflows.reproduction.profiles import Profile
from momkd.workflows.settings import ModelChoice, Settings, parse_models

METHODS = {
    "abmil": "ABMIL",
    "dsmil": "DSMIL",
    "transmil": "TransMIL",
    "dtfd_mil": "DTFD-MIL",
    "wikg": "WiKG",
    "tdc": "TDC",
    "mkd": "MKD",
    "g_hanet": "G-HANet",
    "momkd": "MoMKD",
}
"""The nine methods in the order of the paper's tables, and how papers spell them."""

MOMKD = "momkd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One model with its options, cross-validated in ``runs/<name>``."""

    name: str
    choice: ModelChoice

    @property
    def signature(self) -> str:
        """SHA-256 of all that makes this arm's model another one than the next arm's."""
        choice = self.choice
        model = {"name": choice.name, "control": choice.control, "options": choice.resolved()}
        return digest_bytes(canonical_json(model).encode())

    @property
    def assignment(self) -> str:
        """The ``--set`` value that puts this arm's model in place of the configuration's."""
        return "model=" + json.dumps(self.choice.model_dump(mode="json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """An external cohort, opened, and what it is called."""

    name: str
    audited: AuditedCohort


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be made, from what, and how thoroughly.

    Parameters
    ----------
    folder
        Where it all goes.
    files, set_
        Configuration files in the order they are merged, and assignments above them.
    settings
        What these come to.
    seeds, workers, max_skip
        As :func:`momkd.workflows.crossval.crossval` has them.
    external
        A cohort that the models have never seen, if there is one.
    slides
        Slide files, or folders of them, whose tiles Figure 4 shows.
    """

    folder: Path
    files: tuple[Path, ...]
    set_: tuple[str, ...]
    settings: Settings
    profile: Profile
    seeds: int
    workers: int | None = None
    max_skip: float = 0.0
    external: External | None = None
    slides: tuple[Path, ...] = ()

    def run_of(self, arm: Arm) -> Path:
        """Give an arm's run folder."""
        return self.folder / "runs" / arm.name

    def settings_of(self, arm: Arm) -> Settings:
        """Give the settings an arm is trained with."""
        return self.settings.model_copy(update={"model": arm.choice})

    @property
    def budget(self) -> str:
        """How long and how often is trained, in words for every page."""
        return self.profile.statement(self.settings, self.seeds)


def base_arm(plan: Plan) -> Arm:
    """Give MoMKD as the configuration has it; where that names another model, by its defaults."""
    own = plan.settings.model
    return _settle(plan, MOMKD, own if own.name == MOMKD else ModelChoice(name=MOMKD))


def method_arm(plan: Plan, name: str) -> Arm:
    """Give one of the nine methods; options of the ``model`` block apply to its own model only."""
    if name == MOMKD:
        return base_arm(plan)
    own = plan.settings.model
    choice = own if own.name == name else ModelChoice(name=name)
    wanted = plan.profile.options.get(name, {})
    return _settle(plan, name, _changed(choice, wanted))


def momkd_arm(
    plan: Plan, name: str, options: Mapping[str, Any], *, control: RNAControl | None = None
) -> Arm:
    """Give MoMKD with changed options; the base arm itself where nothing comes out changed.

    Parameters
    ----------
    name
        Of the run folder.
    options
        Laid over the base arm's, blocks key by key.
    control
        What stands in the place of RNA, if not what the base arm has.
    """
    base = base_arm(plan)
    choice = _changed(base.choice, options)
    if control is not None:
        choice = choice.model_copy(update={"control": control})
    arm = _settle(plan, name, choice)
    return base if arm.signature == base.signature else arm


def _settle(plan: Plan, name: str, choice: ModelChoice) -> Arm:
    """Let the settings say what the choice comes to, and refuse what cannot be trained."""
    (settled,) = parse_models(None, plan.settings.model_copy(update={"model": choice}))
    return Arm(name=name, choice=settled)


def _changed(choice: ModelChoice, options: Mapping[str, Any]) -> ModelChoice:
    content = choice.model_dump(mode="json")
    return ModelChoice.model_validate(merge(content, options))
