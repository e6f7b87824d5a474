"""A search in a configuration: the space of each model, checked, and options laid over a job."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any, TypeVar

from momkd.config import merge, parse_options
from momkd.errors import ConfigError, Problem, Problems
from momkd.fitting.fit_options import FitOptions
from momkd.fitting.search import Range, SearchOptions, Space, Value, require_optuna
from momkd.models.search_spaces import SEARCH_SPACES
from momkd.models.table import MODELS
from momkd.workflows.fold_training import FoldJob
from momkd.workflows.settings import ModelChoice, Settings

# what is left of ``fit`` is the budget, how an epoch is chosen, or the machine: equal for all
_OF_FIT = (
    *("lr", "weight_decay", "clip_norm", "optimizer", "schedule", "lr_final"),
    *("plateau_factor", "plateau_patience"),
)

JobT = TypeVar("JobT", bound=FoldJob)


def space_of(choice: ModelChoice, options: SearchOptions) -> Space:
    """Give what is searched of a model: the configuration's space, or the one it comes with."""
    if choice.name in options.spaces:
        return options.spaces[choice.name]
    own = {"spaces": {choice.name: SEARCH_SPACES[choice.name]}}
    return parse_options(SearchOptions, own, f"search space of {choice.name}").spaces[choice.name]


def defaults_of(choice: ModelChoice, settings: Settings, space: Space) -> dict[str, Value]:
    """Give the value that every key of a space has as the configuration stands.

    Raises
    ------
    ConfigError
        G20 a key of neither the model nor its training.
    """
    content = {"fit": settings.fit.model_dump(mode="json"), "model": choice.resolved()}
    return {key: _value_at(content, key, choice) for key in space}


def require_searchable(choices: Sequence[ModelChoice], settings: Settings) -> None:
    """Turn a search away that cannot be made, before its first trial.

    Every value of a list, and both ends of a range, is tried on the options of its model.

    Raises
    ------
    ConfigError
        G05 a space of an unknown model, G03, G04 a key or value that a model does not have, G20 a
        key that is not searched, or a training that several processes share; all that was found.
    MachineError
        G21 Optuna is not installed.
    """
    search = settings.search
    if not search.trials:
        return
    problems = Problems()
    for name in search.spaces:
        if name not in MODELS:
            what = f"unknown model {name!r}"
            remedy = f"known: {', '.join(MODELS)}"
            problems.add(
                Problem(code="G05", where=f"search.spaces.{name}", what=what, remedy=remedy)
            )
    if settings.fit.devices > 1:
        what = f"does not go together with fit.devices {settings.fit.devices}"
        remedy = "search with fit.devices 1; folds run side by side with --workers"
        problems.add(Problem(code="G20", where="search.trials", what=what, remedy=remedy))
    for choice in choices:
        if not choice.is_tabular:
            problems.found += _faults(choice, settings)
    problems.refuse(ConfigError)
    require_optuna()


def describe_search(settings: Settings) -> dict[str, Any]:
    """Give what ``run.json`` says of the search; nothing where there is none."""
    if not settings.search.trials:
        return {}
    sampler = f"TPE of Optuna {version('optuna')}"
    of = {"trials": settings.search.trials, "seed": settings.search.seed, "sampler": sampler}
    return {"search": of | {"score": f"best smoothed {settings.fit.select} on validation"}}


def with_options(
    job: JobT, settings: Settings, options: Mapping[str, Value]
) -> tuple[JobT, Settings]:
    """Lay the options of a trial over a job and its settings.

    Raises
    ------
    ConfigError
        G03, G04 they do not fit the model, alone or together.
    """
    content: dict[str, Any] = {"fit": settings.fit.model_dump(mode="json")}
    content["model"] = job.choice.model_dump(mode="json")
    for key, value in options.items():
        content = merge(content, _nested(key, value))
    where = f"search of {job.choice.label}"
    choice = parse_options(ModelChoice, content["model"], where)
    choice.resolved()
    fit = parse_options(FitOptions, content["fit"], where)
    return replace(job, choice=choice), settings.model_copy(update={"fit": fit})


def _faults(choice: ModelChoice, settings: Settings) -> list[Problem]:
    space = space_of(choice, settings.search)
    found: dict[str, Problem] = {}
    for key, dimension in space.items():
        block, _, name = key.partition(".")
        where = f"search.spaces.{choice.name}.{key}"
        if block not in ("fit", "model") or name in ("", "name", "preset", "control"):
            what, remedy = "is not searched", "wanted fit.KEY or model.KEY"
        elif block == "fit" and name not in _OF_FIT:
            what, remedy = "is not searched", f"of fit: {', '.join(_OF_FIT)}"
        elif dimension == []:
            what, remedy = "holds no value", "give one or more"
        else:
            values = _ends(dimension) if isinstance(dimension, Range) else dimension
            for value in values:
                found.update(_misfits(choice, settings, key, value))
            continue
        found[where] = Problem(code="G20", where=where, what=what, remedy=remedy)
    return list(found.values())


def _misfits(choice: ModelChoice, settings: Settings, key: str, value: Value) -> dict[str, Problem]:
    """Try one value on the options it is of; an unknown key is told once, whatever its values."""
    block, _, name = key.partition(".")
    try:
        if block == "fit":
            content = merge(settings.fit.model_dump(mode="json"), {name: value})
            parse_options(FitOptions, content, f"search.spaces.{choice.name}")
        else:
            content = merge(choice.model_dump(mode="json"), _nested(name, value))
            ModelChoice.model_validate(content).resolved()
            defaults_of(choice, settings, {key: [value]})
    except ConfigError as error:
        return {p.line(): replace(p, where=f"search of {p.where}") for p in error.problems}
    return {}


def _ends(of: Range) -> list[Value]:
    ends = (of.low, of.high)
    return [int(e) for e in ends] if of.whole else list(ends)


def _nested(key: str, value: Value) -> dict[str, Any]:
    *parents, last = key.split(".")
    content: dict[str, Any] = {last: value}
    for name in reversed(parents):
        content = {name: content}
    return content


def _value_at(content: Mapping[str, Any], key: str, choice: ModelChoice) -> Value:
    place: Any = content
    for name in key.split("."):
        if not isinstance(place, Mapping) or name not in place:
            what = f"{choice.name} has no option {key}"
            where = f"search.spaces.{choice.name}"
            raise ConfigError.of("G20", where, what, "momkd's docs/models name its options")
        place = place[name]
    if isinstance(place, Mapping | list) or (isinstance(place, float) and math.isnan(place)):
        what = f"{key} holds several values, wanted one"
        raise ConfigError.of("G20", f"search.spaces.{choice.name}", what)
    return place
