"""What tables and folders call a model: ``momkd``, ``momkd-plus+shuffled``."""

from collections.abc import Collection


def model_label(name: str, preset: str | None, control: str | None) -> str:
    """Give the label of a model with a preset and a control, ``momkd-code+shuffled``."""
    label = name if preset is None else f"{name}-{preset}"
    return label if control is None else f"{label}+{control}"


def label_in_run(name: str, labels: Collection[str]) -> str:
    """Give what tables and folders call a model that was typed as for ``crossval --model``.

    ``momkd:plus+shuffled`` is ``momkd-plus+shuffled`` there. A name that fits none of ``labels``
    either way stays as it was typed.
    """
    there = name.replace(":", "-", 1)
    return there if name not in labels and there in labels else name
