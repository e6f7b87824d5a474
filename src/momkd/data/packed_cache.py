"""A folder of packed bags: made from feature files once, mapped into memory ever after.

An entry is kept by what it was made from: the file's path and how it was read, its size and time
of change, and its SHA-256. An entry that does not match, or is damaged, is made again. Writers
need no lock: equal sources give equal bytes, and the last rename wins.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from momkd.data.features import read_bag
from momkd.data.graph import nearest_neighbours
from momkd.data.layouts.material import Geometry
from momkd.data.layouts.pack_file import Pack, PackIndex, encode_pack, open_pack
from momkd.errors import DataError, MachineError
from momkd.storage import canonical_json, digest_bytes, write_bytes, write_json
from momkd.types import Bag, SlideFile, TileGrid

Precision = Literal["float16", "float32"]
Update = Literal["kept", "new", "stale", "damaged"]

_SUFFIX = ".pack"
_ABOUT = "pack.json"
_FORMAT = 1
_PLAIN_NAME = re.compile(r"[\w.\- ]{1,120}")


class PackedCache:
    """Packed bags of one folder.

    Embeddings of float16 files are kept as they are, bit for bit. Those of float32 files are
    kept as ``precision`` says; as float16, a value x becomes one within 2**-11 |x| of it, or within
    2**-25 where |x| < 2**-14. A slide with values beyond float16 stays float32.

    Parameters
    ----------
    folder
        Where entries lie; made when the first is written.
    precision
        What float32 embeddings become. None: as the folder says (``pack.json``), float16 in a new
        one.
    neighbours
        k of the graphs that are stored; another k is computed from the coordinates when asked for.
    """

    def __init__(
        self, folder: Path, *, precision: Precision | None = None, neighbours: int = 8
    ) -> None:
        self.folder = folder
        self.precision = precision or stored_precision(folder) or "float16"
        self._k = neighbours
        self._checked: dict[Path, tuple[int, int, int]] = {}

    def declare(self) -> None:
        """Write the folder's precision, so that whoever reads it later packs alike.

        Raises
        ------
        MachineError
            X10 the disk or the permissions do not allow it.
        """
        path = self.folder / _ABOUT
        content = {"format": _FORMAT, "precision": self.precision}
        if stored_precision(self.folder) != self.precision:
            write_json(path, content)

    def read(self, file: SlideFile, *, k: int) -> Bag:
        """Give the bag of an examined file, from its entry; the entry is made where there is none.

        Raises
        ------
        MomkdError
            As :func:`momkd.data.features.read_bag`, when the entry has to be made.
        """
        _, entry = self._look(file)
        if entry is not None:
            return _bag(file, entry, k)
        try:
            self._write(file)
        except MachineError:
            # a folder that cannot be written costs time and changes no result
            return self._narrowed(read_bag(file, k=k))
        _, entry = self._look(file)
        return self._narrowed(read_bag(file, k=k)) if entry is None else _bag(file, entry, k)

    def update(self, file: SlideFile) -> Update:
        """Make the entry of an examined file, unless it is there and whole; say what was found.

        Raises
        ------
        MachineError
            X10 it cannot be written.
        MomkdError
            As :func:`momkd.data.features.read_bag`.
        """
        state, _ = self._look(file)
        if state != "kept":
            self._write(file)
        return state

    def path_of(self, file: SlideFile) -> Path:
        """Give the place of an entry."""
        name = file.slide_id
        if not _PLAIN_NAME.fullmatch(name) or name[0] == ".":
            name = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.folder / f"{name}{_SUFFIX}"

    def _look(self, file: SlideFile) -> tuple[Update, Pack | None]:
        """Compare an entry with its source; its arrays are hashed the first time it is met."""
        path = self.path_of(file)
        try:
            entry = open_pack(path)
            if not self._matches(entry.index, file):
                return "stale", None
            if self._checked.get(path) != entry.stamp:
                entry.require_whole(path)
                self._checked[path] = entry.stamp
        except (FileNotFoundError, NotADirectoryError):
            return "new", None
        except (DataError, OSError, ValueError):
            return "damaged", None
        return "kept", entry

    def _write(self, file: SlideFile) -> None:
        bag = self._narrowed(read_bag(file, k=self._k))
        write_bytes(self.path_of(file), self._encode(file, bag))

    def _matches(self, index: PackIndex, file: SlideFile) -> bool:
        same = dict(index.source) == self._source(file)
        return same and index.n_neighbours in (None, self._k)

    def _source(self, file: SlideFile) -> dict[str, str | int]:
        """Tell what an entry is made from, and of what precision it was asked to be."""
        how = [file.feature_key, file.drop_nonfinite, str(file.coords_dir or ""), file.mpp0]
        key = canonical_json([str(file.path.absolute()), how])
        size, mtime_ns = stamp_of(file.path)
        return {
            "key": digest_bytes(key.encode("utf-8", "surrogateescape")),
            "size": size,
            "mtime_ns": mtime_ns,
            "sha256": file.sha256,
            "origin": file.content_sha256,
            "asked": self.precision,
        }

    def _narrowed(self, bag: Bag) -> Bag:
        """Round float32 embeddings to float16, where that is asked for and they fit."""
        if self.precision == "float32" or bag.embeddings.dtype == torch.float16:
            return bag
        half = bag.embeddings.half()
        return replace(bag, embeddings=half) if bool(torch.isfinite(half).all()) else bag

    def _encode(self, file: SlideFile, bag: Bag) -> bytes:
        arrays: dict[str, NDArray[Any]] = {"embeddings": bag.embeddings.numpy()}
        geometry = Geometry()
        if bag.grid is not None and bag.neighbours is not None:
            arrays |= {"coords": bag.grid.coords_px0, "neighbours": bag.neighbours.numpy()}
            names = [f.name for f in fields(Geometry)]
            geometry = Geometry(**{name: getattr(bag.grid, name) for name in names})
        return encode_pack(
            file.slide_id,
            arrays,
            source=self._source(file),
            geometry=geometry,
            encoder=bag.encoder,
            encoder_sha256=bag.encoder_sha256,
        )


def stored_precision(folder: Path) -> Precision | None:
    """Give the precision that a folder of packed bags declares; None if it declares none.

    Raises
    ------
    DataError
        F01 its ``pack.json`` is damaged, or of another format.
    """
    path = folder / _ABOUT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        precision: Precision = found["precision"]
        if found["format"] == _FORMAT and precision in get_args(Precision):
            return precision
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError.of("F01", str(path), "is damaged, or of another format", "delete the folder")


def stamp_of(path: Path) -> tuple[int, int]:
    """Give bytes and time of the last change, in ns; of a folder, over all its files.

    Raises
    ------
    DataError
        F28 nothing there.
    """
    try:
        found = path.stat()
        if not path.is_dir():
            return found.st_size, found.st_mtime_ns
        inside = [
            (Path(folder) / name).stat() for folder, _, names in os.walk(path) for name in names
        ]
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise DataError.of("F28", str(path), what, "mend the path") from None
    return sum(s.st_size for s in inside), max((s.st_mtime_ns for s in inside), default=0)


def _bag(file: SlideFile, entry: Pack, k: int) -> Bag:
    index, coords, near, grid = entry.index, entry.arrays.get("coords"), None, None
    if coords is not None:
        places = np.array(coords, dtype=np.int64)
        grid = TileGrid(slide_id=file.slide_id, coords_px0=places, **asdict(index.geometry))
        stored = k == index.n_neighbours
        near = torch.from_numpy(
            np.array(entry.arrays["neighbours"], dtype=np.int32)
            if stored
            else nearest_neighbours(places, k)
        )
    return Bag(
        slide_id=file.slide_id,
        embeddings=torch.from_numpy(entry.arrays["embeddings"]),
        grid=grid,
        neighbours=near,
        encoder=index.encoder,
        encoder_sha256=index.encoder_sha256,
        digest=file.sha256,
    )
