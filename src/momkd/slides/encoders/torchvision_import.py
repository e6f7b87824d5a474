"""``import torchvision`` beside a torch it was not built for; timm needs it, we do not."""

import importlib.util
import sys
from typing import Any

import torch

_operators: list[Any] = []  # torch forgets operators whose library object is collected


def ensure_torchvision() -> str:
    """Make ``import torchvision`` work, or find that it does.

    A torchvision built for CUDA beside a CPU torch fails to import: while it registers shapes for
    two operators of object detection, the operators themselves are missing, because its binary
    could not be loaded. Their signatures are declared, and it imports; nothing here calls them. On
    a sound installation nothing is changed, nor where torchvision is absent. Also works after an
    import that failed.

    Returns
    -------
    str
        ``native``, ``mended`` or ``absent``.
    """
    if importlib.util.find_spec("torchvision") is None:
        return "absent"
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return "mended" if _operators else "native"
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _operators.append(library)
    import torchvision  # noqa: F401

    return "mended"
