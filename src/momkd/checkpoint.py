"""Where a training stands, on disk: whole or not at all, in two generations, without pickle.

A file is the SHA-256 of what follows, then a safetensors payload. Tensors are safetensors entries;
everything around them (nesting, numbers, words) is JSON in the payload's metadata. A save moves
the current file to ``.prev`` before the new one takes its place, so at every instant at least one
whole generation is on disk.
"""

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from momkd.errors import ConfigError, IntegrityError, MachineError, MomkdError
from momkd.storage import write_atomically

_DIGEST_BYTES = 32
_FORMAT = 1
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CheckpointStore:
    """The checkpoint of one training, in a folder of its own that one process holds.

    Attributes
    ----------
    notes
        What :meth:`load` had to do beyond reading the newest file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self._current = folder / "state.ckpt"
        self._previous = folder / "state.ckpt.prev"

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a new generation and keep the one before.

        Parameters
        ----------
        state
            Nested dicts (keys str or int), lists and tuples of tensors and JSON scalars.

        Raises
        ------
        MachineError
            T03 the disk is full, T04 it cannot be written; what was saved before is untouched.
        """
        payload = _encode(state)
        digest = hashlib.sha256(payload).digest()

        def write(stream: BinaryIO) -> None:
            stream.write(digest)
            stream.write(payload)

        try:
            write_atomically(self._current, write, previous=self._previous)
        except MachineError as failure:
            cause = failure.__cause__
            raise self._refusal(cause, len(payload)) from cause

    def load(self) -> dict[str, Any] | None:
        """Give the newest whole generation, or None where nothing was ever saved.

        A damaged newest file is set aside as ``state.ckpt.damaged``, so that the next save does
        not push it over the whole one. Remains of interrupted saves are deleted.

        Raises
        ------
        MachineError
            T04 the disk cannot be read.
        IntegrityError
            T16 something was saved, and no generation is whole.
        """
        for remains in self.folder.glob(f".{self._current.name}.*.tmp"):
            remains.unlink(missing_ok=True)
        newest = self._read(self._current)
        if isinstance(newest, dict):
            return newest
        before = self._read(self._previous)
        if isinstance(before, dict):
            if newest is None:
                self.notes.append("the last save was interrupted; went on from the one before")
            else:
                self._current.replace(self._current.with_suffix(".ckpt.damaged"))
                self.notes.append(
                    f"{self._current.name} is damaged ({newest}), kept as state.ckpt.damaged; "
                    "went on from the generation before"
                )
            return before
        if newest is None and before is None:
            return None
        damage = "; ".join(
            f"{path.name} {fault or 'is absent'}"
            for path, fault in ((self._current, newest), (self._previous, before))
        )
        remedy = "delete this folder to train anew"
        raise IntegrityError.of("T16", str(self.folder), f"no whole checkpoint: {damage}", remedy)

    def _read(self, path: Path) -> dict[str, Any] | str | None:
        """Give the state, or what is wrong with the file, or None where there is none."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            what = f"cannot be read: {error.strerror or error}"
            raise MachineError.of("T04", str(path), what, "mend the disk and go on") from error
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if len(digest) < _DIGEST_BYTES:
            return f"has {len(content)} bytes"
        if hashlib.sha256(payload).digest() != digest:
            return "does not match its digest"
        try:
            return _decode(payload)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            return f"is not a checkpoint of this version: {error!r}"

    def _refusal(self, cause: BaseException | None, n_bytes: int) -> MomkdError:
        full = isinstance(cause, OSError) and cause.errno in _FULL_DISK
        reason = cause.strerror if isinstance(cause, OSError) else cause
        what = f"cannot save ({reason}): {n_bytes:,} bytes wanted; the last good checkpoint stays"
        remedy = "free space, then give the same command to go on" if full else "mend and go on"
        return MachineError.of("T03" if full else "T04", str(self._current), what, remedy)


def require_same(identity: Mapping[str, str], saved: Mapping[str, str], where: str) -> None:
    """Refuse to go on with a checkpoint whose training was not this one.

    Raises
    ------
    ConfigError
        T14 the fields that differ are named.
    """
    names = sorted(identity.keys() | saved.keys())
    changed = [n for n in names if identity.get(n) != saved.get(n)]
    if changed:
        what = f"checkpoint of another training; changed since: {', '.join(changed)}"
        raise ConfigError.of("T14", where, what, "restore them, or choose another -o")


def _encode(state: Mapping[str, Any]) -> bytes:
    tensors: dict[str, torch.Tensor] = {}
    structure = {"format": _FORMAT, "state": _take_apart(state, tensors)}
    # one metadata entry: the order of several is not fixed by the format
    return save_tensors(tensors, metadata={"structure": json.dumps(structure)})


def _decode(payload: bytes) -> dict[str, Any]:
    n_header = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + n_header])
    structure = json.loads(header["__metadata__"]["structure"])
    if structure["format"] != _FORMAT:
        raise ValueError(f"format {structure['format']}, wanted {_FORMAT}")
    state = _put_together(structure["state"], load_tensors(payload))
    if not isinstance(state, dict):
        raise TypeError("the state is no mapping")
    return state


def _take_apart(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Move the tensors out of ``value`` and give JSON that says where they were.

    Containers become one-key objects (``dict`` as pairs, since keys may be whole numbers), so
    that they can be told from one another; scalars stay themselves.
    """
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # a copy of its own: the format refuses tensors that share memory
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"a checkpoint's keys are str or int, got {key!r}")
        return {"dict": [[key, _take_apart(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_take_apart(item, tensors) for item in value]}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a checkpoint holds tensors and JSON scalars, got {type(value).__name__}")


def _put_together(content: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(content, dict):
        return content
    ((kind, inner),) = content.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "dict":
        return {key: _put_together(item, tensors) for key, item in inner}
    items = [_put_together(item, tensors) for item in inner]
    return tuple(items) if kind == "tuple" else items
