"""The whole of a momkd.yaml: one block a room, resolved against the file it stands in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ConfigDict, Field

from momkd.config import Options, merge, override, parse_options, read_yaml
from momkd.data.cohort import DataOptions
from momkd.data.controls import ControlOptions, RNAControl
from momkd.data.folds import FoldOptions
from momkd.data.panel import PanelOptions
from momkd.errors import ConfigError
from momkd.fitting.division import require_divisible
from momkd.fitting.search import SearchOptions
from momkd.models.table import MODELS, resolve_options
from momkd.models.tabular import TABULAR, TabularOptions
from momkd.storage import canonical_json, digest_bytes
from momkd.training import FitOptions
from momkd.workflows.model_label import model_label

CONTROLS: dict[str, RNAControl] = {
    "shuffled": "shuffled_within_class",
    "label": "label",
    "no_rna": "none",
    "true_pairs": "true_pairs",
}
"""What stands behind a model's name (``momkd+shuffled``) and what it means."""


class ModelChoice(Options):
    """Which model, taught what; every further key is one of the model's own options.

    ``control`` is what stands in the place of the training cases' RNA, see
    :class:`~momkd.data.controls.ControlOptions`; ``name`` may also be a tabular baseline.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "momkd"
    preset: str | None = None
    control: RNAControl = "true_pairs"

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the model."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """Name of the model in tables and folders: ``momkd``, ``momkd-code+shuffled``."""
        is_true = self.control == "true_pairs"
        control = None if is_true else next(k for k, v in CONTROLS.items() if v == self.control)
        return model_label(self.name, self.preset, control)

    @property
    def is_tabular(self) -> bool:
        """Whether it is a bound or baseline that reads a table, and no model of slides."""
        return self.name in TABULAR

    @property
    def learns_from_rna(self) -> bool:
        """Whether it is a model of slides that RNA teaches."""
        return not self.is_tabular and MODELS[self.name].needs_rna

    def tabular_options(self) -> TabularOptions:
        """Give the options of a tabular baseline."""
        return parse_options(TabularOptions, self.options, f"model {self.name}")

    def resolved(self) -> dict[str, Any]:
        """All options of the model, defaults included."""
        if self.is_tabular:
            if self.preset is not None:
                what = f"{self.name} has no presets, got {self.preset!r}"
                raise ConfigError.of("G06", "model.preset", what, "leave preset out")
            return self.tabular_options().model_dump(mode="json")
        return resolve_options(self.name, self.preset, self.options).model_dump(mode="json")


class Settings(Options):
    """A resolved configuration."""

    data: DataOptions
    panel: PanelOptions = Field(default_factory=PanelOptions)
    folds: FoldOptions = Field(default_factory=FoldOptions)
    model: ModelChoice = Field(default_factory=ModelChoice)
    controls: ControlOptions = Field(default_factory=ControlOptions)
    fit: FitOptions = Field(default_factory=FitOptions)
    search: SearchOptions = Field(default_factory=SearchOptions)

    def shared(self) -> dict[str, Any]:
        """Give what every model of a run has in common: all blocks but ``model``.

        A search of no trials is left out, so that trainings begun before there was one go on.
        """
        own = {"model"} if self.search.trials else {"model", "search"}
        return self.model_dump(mode="json", exclude=own)

    def shared_digest(self) -> str:
        """SHA-256 of :meth:`shared`."""
        return digest_bytes(canonical_json(self.shared()).encode())


def load_settings(files: Sequence[Path], assignments: Sequence[str] = ()) -> Settings:
    """Read one or more YAML files, later ones overriding earlier ones, then ``--set`` values.

    Paths in the ``data`` and ``folds`` blocks are relative to the file that names them.

    Raises
    ------
    ConfigError
        G01-G04: a file, an assignment, a key or a value at fault; G05, G06: model or preset.
    """
    if not files:
        raise ConfigError.of("G01", "-c", "no configuration given", "momkd init writes one")
    content: dict[str, Any] = {}
    for path in files:
        content = merge(content, _absolute(read_yaml(path), path.resolve().parent))
    content = _absolute(override(content, assignments), Path.cwd())
    packed = packed_folder(files)
    if isinstance(content.get("data"), dict) and packed.is_dir():
        content["data"].setdefault("cache_dir", str(packed))
    where = ", ".join(str(f) for f in files)
    settings = parse_options(Settings, content, where)
    settings.model.resolved()
    return settings


def packed_folder(files: Sequence[Path]) -> Path:
    """Give where packed bags lie by default: ``<name>.packed`` beside the file with the features.

    Raises
    ------
    ConfigError
        G01 a file that cannot be read.
    """
    for path in reversed(files):
        data = read_yaml(path).get("data")
        if isinstance(data, Mapping) and "features" in data:
            return path.resolve().with_suffix(".packed")
    return files[-1].resolve().with_suffix(".packed")


def parse_models(
    text: str | None, settings: Settings, *, controls: bool = False
) -> tuple[ModelChoice, ...]:
    """Read ``--model momkd,momkd:code,momkd+shuffled,rna_logistic``; ``all`` is every slide model.

    Options of the ``model`` block apply to the model (and preset) named in it, and to no other.
    A model that learns from RNA and names no control of its own has that of ``controls.rna``.

    Parameters
    ----------
    controls
        Add the controls of every model that learns from RNA, ``rna_logistic``, ``mean_logistic``
        and, where covariates are named, ``clinical_logistic``.

    Raises
    ------
    ConfigError
        G05 an unknown model, G06 an unknown preset, G12 a batch too small for a model, G17 an
        unknown control, or one of a model that learns nothing from RNA, G18 a model whose batches
        several processes cannot share.
    """
    specs: list[str | None] = [None]
    if text is not None:
        names = [*MODELS] if text == "all" else [t.strip() for t in text.split(",")]
        specs = [name for name in names if name]
    choices = [_choose(spec, settings) for spec in specs]
    if not choices:
        raise ConfigError.of("G05", "--model", f"names no model; known: {', '.join(MODELS)}")
    if controls:
        choices += _controls_of(choices, settings)
    unique = {c.label: c for c in choices}
    _require_batch(list(unique.values()), settings)
    for choice in unique.values():
        if not choice.is_tabular:
            require_divisible(choice.name, MODELS[choice.name], settings.fit.devices)
    return tuple(unique.values())


def _choose(spec: str | None, settings: Settings) -> ModelChoice:
    """Read one ``name:preset+control``; None is the configuration's own model."""
    own = settings.model
    if spec is None:
        choice, control = own, ""
    else:
        model, _, control = spec.partition("+")
        name, _, preset = model.partition(":")
        is_own = name == own.name and (preset or None) in (None, own.preset)
        choice = own if is_own else ModelChoice(name=name, preset=preset or None)
    choice.resolved()
    if control:
        if control not in CONTROLS:
            what = f"unknown control {control!r} of {choice.name}"
            known = f"known: {', '.join(CONTROLS)}"
            raise ConfigError.of("G17", "--model", what, known)
        wanted = CONTROLS[control]
    else:
        wanted = choice.control if choice.control != "true_pairs" else settings.controls.rna
    if choice.learns_from_rna:
        return choice.model_copy(update={"control": wanted})
    if control:
        what = f"{choice.name} learns nothing from RNA, so it has no control {control!r}"
        raise ConfigError.of("G17", "--model", what, f"leave +{control} out")
    return choice.model_copy(update={"control": "true_pairs"})


def _controls_of(choices: Sequence[ModelChoice], settings: Settings) -> list[ModelChoice]:
    """Give what a gain of the chosen models has to be held against."""
    taught = [c for c in choices if c.learns_from_rna]
    found = [c.model_copy(update={"control": way}) for c in taught for way in get_args(RNAControl)]
    beside = ["rna_logistic", "mean_logistic"] if taught else ["mean_logistic"]
    beside += ["clinical_logistic"] if settings.data.covariates else []
    return [*found, *(ModelChoice(name=name) for name in beside)]


def _require_batch(choices: Sequence[ModelChoice], settings: Settings) -> None:
    size = settings.fit.batch_size
    least = {c.name: MODELS[c.name].min_batch for c in choices if not c.is_tabular}
    short = {name: wanted for name, wanted in least.items() if wanted > size}
    if short:
        what = (
            f"got {size}, wanted {max(short.values())} or more: {', '.join(sorted(short))} "
            "cannot learn from the relations within so small a batch"
        )
        remedy = "add -c recipes/common-budget.yaml, or --set fit.batch_size=16"
        raise ConfigError.of("G12", "fit.batch_size", what, remedy)


def dump_settings(settings: Settings) -> str:
    """Write the resolved configuration as YAML."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


_TABLES = (
    "clinical",
    "rna",
    "rna_samples",
    "gene_map",
    "gene_list",
    "restrict_genes_to",
    "patient_alias",
    "coords",
    "slide_mpp",
    "cache_dir",
)
PATH_KEYS = {"data": ("features", *_TABLES), "folds": ("file",)}
"""Keys whose text is a path, by block."""


def _absolute(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    result = dict(content)
    for block, keys in PATH_KEYS.items():
        values = result.get(block)
        if isinstance(values, Mapping):
            result[block] = {k: _resolve(v, folder) if k in keys else v for k, v in values.items()}
    return result


def _resolve(value: Any, folder: Path) -> Any:
    if isinstance(value, str):
        return str(folder / value)
    if isinstance(value, list):
        return [_resolve(v, folder) for v in value]
    return value


def without_folders(content: Mapping[str, Any]) -> dict[str, Any]:
    """Give a configuration with the names of files instead of this machine's paths."""
    result = dict(content)
    for block, keys in PATH_KEYS.items():
        values = result.get(block)
        if isinstance(values, Mapping):
            result[block] = {k: _file_names(v) if k in keys else v for k, v in values.items()}
    return result


def _file_names(value: Any) -> Any:
    if isinstance(value, list):
        return [_file_names(v) for v in value]
    return Path(value).name if isinstance(value, str) else value
