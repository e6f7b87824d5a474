"""The command line: verbs by what they are about, one program."""

from momkd.cli import (
    data_verbs,
    export_verbs,
    machine_verbs,
    slide_verbs,
    study_verbs,
    training_verbs,
    viewer_verbs,
)
from momkd.cli.application import main

__all__ = [
    "data_verbs",
    "export_verbs",
    "machine_verbs",
    "main",
    "slide_verbs",
    "study_verbs",
    "training_verbs",
    "viewer_verbs",
]
