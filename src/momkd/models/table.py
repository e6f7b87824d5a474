"""Which models there are, and how one is built from a name, a preset and options."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from momkd.config import Options, merge, parse_options
from momkd.errors import ConfigError
from momkd.models.abmil import ABMIL
from momkd.models.base import BagClassifier
from momkd.models.dsmil import DSMIL
from momkd.models.dtfd_mil import DTFDMIL
from momkd.models.g_hanet import GHANet
from momkd.models.mean_pool import MeanLogistic
from momkd.models.mkd import MKD
from momkd.models.momkd import MoMKD
from momkd.models.tdc import TDC
from momkd.models.transmil import TransMIL
from momkd.models.wikg import WiKG
from momkd.types import Dims

MODELS: dict[str, type[BagClassifier]] = {
    "momkd": MoMKD,
    "abmil": ABMIL,
    "dsmil": DSMIL,
    "transmil": TransMIL,
    "dtfd_mil": DTFDMIL,
    "wikg": WiKG,
    "tdc": TDC,
    "mkd": MKD,
    "g_hanet": GHANet,
    "mean_logistic": MeanLogistic,
}


def resolve_options(
    name: str, preset: str | None = None, options: Mapping[str, Any] | None = None
) -> Options:
    """Lay ``options`` over the preset, and that over the defaults; blocks are merged key by key.

    Raises
    ------
    ConfigError
        G05 an unknown model, G06 an unknown preset, G03 and G04 options at fault.
    """
    if name not in MODELS:
        what = f"unknown model {name!r}"
        raise ConfigError.of("G05", "model.name", what, _known(name, MODELS))
    cls = MODELS[name]
    if preset is not None and preset not in cls.presets:
        if not cls.presets:
            what = f"{name} has no presets, got {preset!r}"
            raise ConfigError.of("G06", "model.preset", what, "leave preset out")
        what = f"unknown preset {preset!r} of {name}"
        raise ConfigError.of("G06", "model.preset", what, _known(preset, cls.presets))
    changed = cls.presets[preset] if preset is not None else {}
    return parse_options(cls.Options, merge(changed, options or {}), f"model {name}")


def build_model(
    name: str,
    dims: Dims,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> BagClassifier:
    """Build a model with fresh weights from torch's global generator.

    Raises
    ------
    ConfigError
        As :func:`resolve_options`.
    """
    resolved = resolve_options(name, preset, options)
    return MODELS[name](dims, resolved)


def _known(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}known: {', '.join(names)}"
