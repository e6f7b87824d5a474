"""Python loops compiled by numba or triton: where they are installed, where the code is kept.

Both are extras. Modules of compiled loops are imported only behind :func:`numba_fault` or
:func:`triton_fault`, and whoever uses them has a slower way that needs neither.
"""

import functools
import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from momkd.errors import ConfigError

ENVIRONMENT = "MOMKD_KERNELS"

# sums may be taken in another order and products fused, which is what lets a loop over floats
# run in vector registers; nothing that assumes away NaN or infinity, and never for an exponential
SUMS_IN_ANY_ORDER = frozenset({"reassoc", "contract", "nsz"})


@functools.cache
def numba_fault() -> str | None:
    """Say why numba cannot be used; None if it can.

    Raises
    ------
    ConfigError
        G04 ``MOMKD_KERNELS`` is none of ``auto``, ``torch``, ``numba``, ``triton``.
    """
    if _wanted() == "torch":
        return f"{ENVIRONMENT} is torch"
    return _import_fault("numba")


@functools.cache
def triton_fault() -> str | None:
    """Say why triton cannot be used on a CUDA device; None if it can.

    Raises
    ------
    ConfigError
        G04 as of :func:`numba_fault`.
    """
    if (wanted := _wanted()) in ("torch", "numba"):
        return f"{ENVIRONMENT} is {wanted}"
    import torch

    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return _import_fault("triton")


def _wanted() -> str:
    wanted = os.environ.get(ENVIRONMENT, "auto")
    if wanted not in ("auto", "torch", "numba", "triton"):
        what = f"got {wanted!r}, wanted auto, torch, numba or triton"
        raise ConfigError.of("G04", ENVIRONMENT, what, "set it right, or unset it")
    return wanted


def _import_fault(name: str) -> str | None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return f"{name} is not installed"
        return f"{name} cannot be imported ({error})"
    except Exception as error:  # noqa: BLE001  a broken installation raises anything
        return f"{name} cannot be imported ({type(error).__name__}: {first_line(error)})"
    return None


def triton_interprets() -> bool:
    """Say whether triton's interpreter was asked for (``TRITON_INTERPRET=1``)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def triton_version() -> str:
    """Give the version of triton."""
    import triton

    return str(triton.__version__)


def numba_version() -> str:
    """Give the version of numba."""
    import numba

    return str(numba.__version__)


def first_line(error: BaseException) -> str:
    """Give the first line of an error's text, cut to a length that fits a message."""
    return next(iter(str(error).strip().splitlines()), "")[:120]


def compiled(*, any_order: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function at its first call, without the interpreter's lock, and keep the code.

    Parameters
    ----------
    any_order
        Compile with :data:`SUMS_IN_ANY_ORDER`. The result is as repeatable as without: the order
        is chosen once, by the compiler.
    """
    numba: Any = importlib.import_module("numba")
    flags = set(SUMS_IN_ANY_ORDER) if any_order else False

    def compile_it(function: Callable[..., Any]) -> Any:
        function = inspect.unwrap(function)  # tests wrap every function to check its types
        settings = {"nogil": True, "fastmath": flags, "error_model": "numpy"}
        before = numba.config.CACHE_DIR
        try:
            # numba asks for its folder here and now; the setting of others stays as it was
            numba.config.CACHE_DIR = str(code_folder(Path(inspect.getfile(function)), before))
            return numba.njit(**settings, cache=True)(function)
        except (RuntimeError, OSError):  # no folder to write: compiled anew in each process
            return numba.njit(**settings)(function)
        finally:
            numba.config.CACHE_DIR = before

    return compile_it


def program(function: Callable[..., Any]) -> Any:
    """Compile a function by triton, for the device of its arguments at its first call.

    Whole numbers whose names end in ``_any`` never choose between compiled variants.
    """
    triton: Any = importlib.import_module("triton")
    function = inspect.unwrap(function)  # tests wrap every function to check its types
    free = [name for name in inspect.signature(function).parameters if name.endswith("_any")]
    return triton.jit(do_not_specialize=free)(function)


def code_folder(source: Path, root: str) -> Path:
    """Give the folder of compiled code for a file; it changes when a file beside it does.

    numba looks at the file of the function it compiles only; loops that call each other across
    files therefore share one folder, named by what all of them hold.
    """
    base = Path(root) if root else user_cache() / "momkd" / "compiled"
    return base / _digest(source.parent)


@functools.cache
def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def user_cache() -> Path:
    """Give the folder where this system keeps what a user's programs can make again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
