"""A model's tensors as safetensors bytes and back; nothing is unpickled, nothing half fits."""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from momkd.errors import ModelError, Problem
from momkd.models.base import BagClassifier

_SHOWN = 10


def pack_weights(model: BagClassifier) -> bytes:
    """Give the tensors that prediction needs as safetensors bytes; equal weights, equal bytes.

    Raises
    ------
    ModelError
        C11 a weight is not finite.
    """
    return pack_tensors(serving_tensors(model), f"model {type(model).__name__}")


def serving_tensors(model: BagClassifier) -> dict[str, Tensor]:
    """Give the tensors that prediction needs, each with memory of its own."""
    return {k: t.detach().cpu().contiguous().clone() for k, t in model.serving_state()}


def pack_tensors(tensors: dict[str, Tensor], where: str) -> bytes:
    """Give tensors as safetensors bytes; equal tensors, equal bytes.

    Raises
    ------
    ModelError
        C11 a value is not finite.
    """
    _require_finite(tensors, where)
    return save(tensors, metadata={"format": "pt"})


def unpack_weights(content: bytes, where: str) -> dict[str, Tensor]:
    """Read safetensors bytes.

    Raises
    ------
    ModelError
        C05 truncated, empty, or another format.
    """
    try:
        return load(content)
    except SafetensorError as error:
        what = f"is not a whole safetensors file ({len(content)} bytes): {error}"
        raise ModelError.of("C05", where, what, "fetch or train the predictor again") from None


def require_match(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    """Compare tensors with a skeleton's, before anything is copied.

    Parameters
    ----------
    tensors
        As read.
    wanted
        State of a model built as the card says; its values are not looked at.
    where
        The file, for the message.

    Raises
    ------
    ModelError
        C08 names missing or left over, C09 other shapes or types, C11 values that are not finite.
    """
    problems = []
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing or extra:
        what = f"lacks {_list(missing)}; has besides {_list(extra)}"
        remedy = "these weights are not of the model that config.json names"
        problems.append(Problem(code="C08", where=where, what=what, remedy=remedy))
    unfit = [
        f"{name} {_form(tensors[name])}, wanted {_form(wanted[name])}"
        for name in sorted(set(wanted) & set(tensors))
        if _form(tensors[name]) != _form(wanted[name])
    ]
    if unfit:
        remedy = "these weights were trained for other widths than config.json says"
        problems.append(Problem(code="C09", where=where, what=f"got {_list(unfit)}", remedy=remedy))
    if problems:
        raise ModelError(*problems)
    _require_finite(tensors, where)


def _require_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    broken = sorted(name for name, t in tensors.items() if not bool(torch.isfinite(t).all()))
    if broken:
        what = f"values that are not finite in {_list(broken)}"
        raise ModelError.of("C11", where, what, "train the predictor again")


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _list(names: list[str]) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
