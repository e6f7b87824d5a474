"""Features that ``torch.save`` wrote: CLAM's ``pt_files``, and TRIDENT's ``.pt`` of an array.

A ``.pt`` is a pickle. Only tensors and plain numpy arrays are let through; everything else is
refused unread, and never tried by a looser loader.
"""

import codecs
import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from momkd.data.layouts.checks import require_numbers
from momkd.data.layouts.clam import find_corners, shown
from momkd.data.layouts.hdf5_file import brief, require_no_bomb
from momkd.data.layouts.material import Geometry, Material, ReadLimits, ReadRules
from momkd.data.layouts.plain_file import damaged
from momkd.errors import DataError, IntegrityError

KEY = "tensor"
_SAFE_SINCE = (2, 10)  # older loaders can be made to write out of bounds (CVE-2026-24747)


def read(path: Path, content: bytes, rules: ReadRules, limits: ReadLimits) -> Material:
    """Read a tensor or array; corners come from a file of corners, or there are none.

    Raises
    ------
    DataError
        F01 damaged, F05 no single tensor, F38 a torch too old to open it safely; F codes of the
        file of corners.
    IntegrityError
        F24 a shape bomb, F39 anything but tensors and arrays inside.
    """
    values = _load(path, content, limits)
    require_numbers(path, KEY, values.shape, values.dtype)
    corners = find_corners(path, rules, limits)
    parts = {"features": hashlib.sha256(content).hexdigest()}
    why, notes, coords, geometry = "a tensor saved by torch", [], None, Geometry()
    if corners is None:
        notes.append("a .pt has no coordinates, and no patches file was found (data.coords)")
    else:
        coords, geometry = corners.coords_px0, corners.geometry
        parts |= {"corners": corners.sha256}
        why += f"; corners, row for row, from {shown(corners.path)}"
    return Material(
        layout="clam-pt",
        why=why,
        key=KEY,
        embeddings=values,
        coords_px0=coords,
        geometry=geometry,
        parts=parts,
        notes=tuple(notes),
    )


def _load(path: Path, content: bytes, limits: ReadLimits) -> NDArray[Any]:
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _SAFE_SINCE:
        what = f"torch {torch.__version__} cannot open a .pt safely"
        remedy = "install torch 2.10 or newer, or give the h5 files"
        raise DataError.of("F38", str(path), what, remedy)
    _require_plain_zip(path, content)
    try:
        with torch.serialization.safe_globals(_array_parts()):
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = f"holds more than tensors and arrays: {_culprit(error)}"
        raise IntegrityError.of("F39", str(path), what, "give the h5 files instead") from None
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, OSError, IndexError) as error:
        raise damaged(path, f"damaged .pt: {brief(error)}") from None
    if isinstance(found, dict) and len(found) == 1:
        found = next(iter(found.values()))
    if isinstance(found, np.ndarray):
        return found
    if not isinstance(found, torch.Tensor):
        what = f"holds a {type(found).__name__}, wanted one tensor (n_tiles, dim)"
        raise DataError.of("F05", str(path), what, "save the features alone")
    if found.is_sparse or found.is_quantized or found.layout is not torch.strided:
        raise DataError.of("F05", str(path), "holds no dense tensor", "save the features alone")
    # a view can repeat few stored numbers without end
    declared, stored = found.numel() * found.element_size(), found.untyped_storage().nbytes()
    require_no_bomb(str(path), KEY, declared, stored, limits)
    if found.dtype is torch.bfloat16:
        found = found.float()
    return found.detach().numpy()


def _require_plain_zip(path: Path, content: bytes) -> None:
    """Turn away archives whose members grow when they are unpacked; torch writes none such."""
    if not content.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise damaged(path, f"damaged .pt: {brief(error)}") from None
    declared = sum(member.file_size for member in members)
    if declared > len(content) or any(m.compress_type != zipfile.ZIP_STORED for m in members):
        what = f"its members declare {declared:,} bytes, and the file has {len(content):,}"
        raise IntegrityError.of("F24", str(path), what, "save it again with torch.save")


def _array_parts() -> list[Any]:
    """Give what a pickled plain array is made of; its maker has an old and a new name."""
    maker: Any = np.empty(0).__reduce__()[0]
    names = [f"numpy.{room}.multiarray._reconstruct" for room in ("core", "_core")]
    kinds = [type(np.dtype(name)) for name in ("float16", "float32", "float64")]
    return [*((maker, name) for name in names), np.ndarray, np.dtype, *kinds, codecs.encode]


def _culprit(error: Exception) -> str:
    """Name what was refused, without torch's advice to open the file all the same."""
    words = str(error).replace("\n", " ").split()
    named = [w.strip("`.,") for w in words if "." in w.strip("`.,") and "torch.load" not in w]
    return named[0] if named else "an object"
