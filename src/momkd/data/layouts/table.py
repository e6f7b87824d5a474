"""Which layout a file follows, told by its content; and every layout read through one door."""

from pathlib import Path

from momkd.data.layouts import (
    clam,
    numpy_file,
    pack_file,
    stamp,
    torch_file,
    trident,
    wsidata,
)
from momkd.data.layouts.checks import examine
from momkd.data.layouts.hdf5_file import KEY_REMEDY, HDF5File, open_hdf5
from momkd.data.layouts.material import Material, RawFeatures, ReadLimits, ReadRules
from momkd.data.layouts.plain_file import kind_of, read_bytes, require_reachable
from momkd.errors import DataError, MomkdError

_OTHER_KEYS = ("embeddings", "patch_features", "patch_embeddings", "feats")


def read_raw(
    path: Path,
    *,
    rules: ReadRules | None = None,
    limits: ReadLimits | None = None,
) -> RawFeatures:
    """Read a feature file in any known layout.

    Parameters
    ----------
    path
        The file, or the folder of a zarr store; never written to.
    rules
        How it is to be read.
    limits
        Bounds on what is read.

    Raises
    ------
    DataError
        F01-F06, F11, F13-F15, F20, F25, F28-F31, F33, F37, F38: the file cannot be used. F07: no
        tile in it.
    IntegrityError
        F21-F24, F36, F39: refused before anything is read.
    """
    rules, limits = rules or ReadRules(), limits or ReadLimits()
    return examine(path, _material(path, rules, limits), rules, limits)


def _material(path: Path, rules: ReadRules, limits: ReadLimits) -> Material:
    require_reachable(path)
    if path.is_dir() and path.suffix.lower() == ".zarr":
        return wsidata.read(path, rules, limits)
    content = read_bytes(path)
    match kind_of(path, content):
        case "npy":
            return numpy_file.read(path, content, rules, limits)
        case "torch":
            return torch_file.read(path, content, rules, limits)
        case "pack":
            return pack_file.read(path, content)
        case "hdf5":
            with open_hdf5(path, content, limits) as file:
                return _read_hdf5(file, rules, limits)


def _read_hdf5(file: HDF5File, rules: ReadRules, limits: ReadLimits) -> Material:
    # in this order: what has marks of its own before what is told by their absence
    if (why := trident.recognise(file, rules)) is not None:
        return trident.read(file, rules, why)
    if (why := stamp.recognise(file, rules)) is not None:
        return stamp.read(file, rules, why)
    if (why := clam.recognise(file, rules)) is not None:
        return clam.read(file, rules, why, limits)
    raise _no_features(file, rules)


def _no_features(file: HDF5File, rules: ReadRules) -> MomkdError:
    key, path = rules.feature_key or trident.FEATURE_KEY, str(file.path)
    if file.keys == ("coords",):
        what = "holds corners of tiles and no features (a patches file)"
        return DataError.of("F04", path, what, "name the folder of the features")
    listed = ", ".join(repr(k) for k in file.keys[:8]) or "nothing"
    guess = next((k for k in _OTHER_KEYS if k in file.keys), None)
    remedy = f"set data.feature_key: {guess}" if guess else KEY_REMEDY
    return DataError.of("F04", path, f"no dataset '{key}' (has {listed})", remedy)
