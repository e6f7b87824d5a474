"""Several members in one folder: their cards in one ``config.json``, their tensors in one file."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from torch import Tensor

import momkd
from momkd.config import Options, parse_options
from momkd.errors import ConfigError, ModelError
from momkd.models.base import BagClassifier
from momkd.serving.card import FORMAT_VERSION, Card, Digest, as_card_fault
from momkd.serving.weights import pack_tensors, serving_tensors
from momkd.storage import digest_bytes


class Bundle(Options):
    """``config.json`` of several fold models that answer together.

    Parameters
    ----------
    members
        Their cards; ``weights_sha256`` of a card is that of the file it was trained into.
    weights_sha256
        Of ``model.safetensors``, which holds all members.
    """

    format_version: int = FORMAT_VERSION
    momkd_version: str = momkd.__version__
    weights_sha256: Digest | None = None
    members: tuple[Card, ...] = Field(min_length=1)


def is_bundle(content: Mapping[str, Any]) -> bool:
    """Say whether a ``config.json`` is of several members, or a single predictor's card."""
    return "members" in content


def parse_bundle(content: dict[str, Any], where: str) -> Bundle:
    """Make a bundle of what ``config.json`` holds.

    Raises
    ------
    ModelError
        C08 keys missing, unknown or unfit.
    """
    try:
        return parse_options(Bundle, content, where)
    except ConfigError as error:
        raise ModelError(*(as_card_fault(p) for p in error.problems)) from None


def pack_bundle(models: Sequence[BagClassifier], cards: Sequence[Card]) -> tuple[Bundle, bytes]:
    """Give the configuration and the weights of several members.

    Raises
    ------
    ModelError
        C11 a weight is not finite.
    """
    tensors = {
        f"{_prefix(number)}{name}": tensor
        for number, model in enumerate(models)
        for name, tensor in serving_tensors(model).items()
    }
    weights = pack_tensors(tensors, f"model {cards[0].model}")
    return Bundle(members=tuple(cards), weights_sha256=digest_bytes(weights)), weights


def part_tensors(
    tensors: Mapping[str, Tensor], n_members: int, where: str
) -> list[dict[str, Tensor]]:
    """Give each member its tensors.

    Raises
    ------
    ModelError
        C08 a tensor of no member.
    """
    parts: list[dict[str, Tensor]] = []
    for number in range(n_members):
        start = _prefix(number)
        part = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
        parts.append(part)
    if sum(map(len, parts)) != len(tensors):
        known = tuple(_prefix(number) for number in range(n_members))
        extra = sorted(k for k in tensors if not k.startswith(known))
        what = f"{len(extra)} tensors are of none of its {n_members} members (first: {extra[0]})"
        remedy = "these weights are not of the members that config.json names"
        raise ModelError.of("C08", where, what, remedy)
    return parts


def _prefix(number: int) -> str:
    return f"members.{number}."
