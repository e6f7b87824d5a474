"""The whole of a momkd.yaml: one block a room, resolved against the file it stands in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, Field

from momkd.config import Options, override, parse_options, read_yaml
from momkd.data.cohort import DataOptions
from momkd.data.folds import FoldOptions
from momkd.data.panel import PanelOptions
from momkd.errors import ConfigError
from momkd.models.table import MODELS, resolve_options
from momkd.storage import canonical_json, digest_bytes
from momkd.training import FitOptions


class ModelChoice(Options):
    """Which model; every further key is one of the model's own options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "momkd"
    preset: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the model."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """Name of the model in tables and folders: ``momkd``, ``momkd-code``."""
        return self.name if self.preset is None else f"{self.name}-{self.preset}"

    def resolved(self) -> dict[str, Any]:
        """All options of the model, defaults included."""
        return resolve_options(self.name, self.preset, self.options).model_dump(mode="json")


class Settings(Options):
    """A resolved configuration."""

    data: DataOptions
    panel: PanelOptions = Field(default_factory=PanelOptions)
    folds: FoldOptions = Field(default_factory=FoldOptions)
    model: ModelChoice = Field(default_factory=ModelChoice)
    fit: FitOptions = Field(default_factory=FitOptions)

    def shared(self) -> dict[str, Any]:
        """Give what every model of a run has in common: all blocks but ``model``."""
        return self.model_dump(mode="json", exclude={"model"})

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
        content = _merge(content, _absolute(read_yaml(path), path.resolve().parent))
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


def parse_models(text: str | None, settings: Settings) -> tuple[ModelChoice, ...]:
    """Read ``--model momkd,momkd:code,abmil``; ``all`` is every model of the table.

    Options of the ``model`` block apply to the model (and preset) named in it, and to no other.

    Raises
    ------
    ConfigError
        G05 an unknown model, G06 an unknown preset, G12 a batch too small for a model.
    """
    if text is None:
        _require_batch([settings.model], settings)
        return (settings.model,)
    names = list(MODELS) if text == "all" else [t.strip() for t in text.split(",") if t.strip()]
    choices = []
    for spec in names:
        name, _, preset = spec.partition(":")
        own = settings.model
        if name == own.name and (preset or None) in (None, own.preset):
            choice = own
        else:
            choice = ModelChoice(name=name, preset=preset or None)
        choice.resolved()
        choices.append(choice)
    if not choices:
        raise ConfigError.of("G05", "--model", f"names no model; known: {', '.join(MODELS)}")
    _require_batch(choices, settings)
    unique = {c.label: c for c in choices}
    return tuple(unique.values())


def _require_batch(choices: Sequence[ModelChoice], settings: Settings) -> None:
    size = settings.fit.batch_size
    short = {c.name: MODELS[c.name].min_batch for c in choices if MODELS[c.name].min_batch > size}
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


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _merge(old, value)
        result[key] = value
    return result


_PATH_KEYS = {
    "data": ("features", "clinical", "rna", "coords", "slide_mpp", "cache_dir"),
    "folds": ("file",),
}


def _absolute(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    result = dict(content)
    for block, keys in _PATH_KEYS.items():
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
