"""A YAML mapping becomes frozen options, or is refused with the key's path.

Options classes live beside what they steer; this module holds only the mechanism.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from momkd.errors import ConfigError, Problem


class Options(BaseModel):
    """Base of every options class: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


OptionsT = TypeVar("OptionsT", bound=Options)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another: block by block, key by key."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return result


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises
    ------
    ConfigError
        G01 no such file, not readable, not YAML, or not a mapping.
    """
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError.of("G01", where, "no such file", "momkd init writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.of("G01", where, f"cannot be read: {error}") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise ConfigError.of("G01", where, f"is not YAML: {what}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in content):
        raise ConfigError.of("G01", where, "want a mapping of keys to values at the top")
    return content


def override(content: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply ``a.b=value`` assignments (values are YAML) to a nested mapping; return a copy.

    Raises
    ------
    ConfigError
        G02 an assignment without ``=`` or through a key that is not a mapping.
    """
    result = _copy(content)
    for text in assignments:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise ConfigError.of("G02", "--set", f"got {text!r}, wanted key.path=value")
        *parents, last = key.split(".")
        place = result
        for name in parents:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ConfigError.of("G02", "--set", f"{key}: {name} holds a value, not keys")
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError.of("G02", "--set", f"{key}: {value!r} is not YAML") from None
    return result


def _copy(content: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in content.items()}


def parse_options(cls: type[OptionsT], content: Mapping[str, Any], where: str) -> OptionsT:
    """Build ``cls`` from a mapping.

    Raises
    ------
    ConfigError
        G03 an unknown key (the nearest known one is named), G04 a value that does not fit;
        one problem a key, all at once.
    """
    try:
        return cls.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(*(_problem(cls, e, where) for e in error.errors())) from None


def _problem(cls: type[BaseModel], error: Any, where: str) -> Problem:
    path = ".".join(str(p) for p in error["loc"])
    place = f"{where}: {path}" if path else where
    if error["type"] == "extra_forbidden":
        known = _keys_at(cls, error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return Problem(code="G03", where=place, what="unknown key", remedy=hint)
    got = error.get("input")
    what = error["msg"] if error["type"] == "missing" else f"{error['msg']} (got {got!r})"
    return Problem(code="G04", where=place, what=what)


def _keys_at(cls: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    for name in loc:
        info = cls.model_fields.get(str(name))
        if info is None:
            return []
        inner = info.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        cls = inner
    return sorted(cls.model_fields)
