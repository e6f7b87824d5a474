"""Groups and columns of an HDF5 file, behind the door that guards feature files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts.hdf5_file import HDF5File, open_hdf5
from momkd.data.layouts.material import ReadLimits
from momkd.data.layouts.plain_file import kind_of, read_bytes
from momkd.errors import DataError, IntegrityError, MomkdError

REWRITE = "write it again with AnnData or MuData"


@dataclass(frozen=True, slots=True, kw_only=True)
class H5Store:
    """An open file; nothing is read from it but what passes the guards."""

    path: Path
    door: HDF5File

    def has(self, key: str) -> bool:
        """Say whether there is such a place, without following any link."""
        place: Any = self.door.file
        for name in key.split("/"):
            if not isinstance(place, h5py.Group) or name not in place:
                return False
            if not isinstance(place.get(name, getlink=True), h5py.HardLink):
                return True  # named, and refused when read
            place = place[name]
        return True

    def is_group(self, key: str) -> bool:
        """Say whether a group stands there.

        Raises
        ------
        IntegrityError
            F22 a link on the way.
        """
        return isinstance(self._at(key), h5py.Group)

    def names(self, key: str) -> list[str]:
        """Give the names in a group; none where there is no such group."""
        return sorted(self._at(key)) if self.has(key) and self.is_group(key) else []

    def attributes(self, key: str) -> Mapping[str, Any]:
        """Give the attributes of a group."""
        return dict(self._at(key).attrs)

    def array(self, key: str) -> NDArray[Any]:
        """Read a dataset.

        Raises
        ------
        DataError
            F25 a filter that is not built in.
        IntegrityError
            F21 to F24 data outside the file, or sizes that it cannot hold.
        """
        return np.asarray(self.door.dataset(key)[()])

    def refuse(self, what: str, remedy: str = REWRITE) -> MomkdError:
        """Give the refusal of a file whose parts do not fit (O28)."""
        return DataError.of("O28", str(self.path), what, remedy)

    def _at(self, key: str) -> Any:
        place: Any = self.door.file
        for name in key.split("/"):
            if not isinstance(place.get(name, getlink=True), h5py.HardLink):
                what = f"'{key}' goes through a link"
                raise IntegrityError.of("F22", str(self.path), what, REWRITE)
            place = place[name]
        return place


@contextmanager
def open_store(path: Path) -> Iterator[H5Store]:
    """Open a file from its bytes, read once.

    Raises
    ------
    DataError
        F01 to F03, F28 to F31: no file, or no HDF5.
    """
    content = read_bytes(path)
    if kind_of(path, content) != "hdf5":
        raise DataError.of("F03", str(path), "is no HDF5 file", REWRITE)
    with open_hdf5(path, content, ReadLimits()) as door:
        yield H5Store(path=path, door=door)
