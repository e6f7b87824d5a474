"""Text of others made fit for a page that travels: no folders, nothing that turns or hides text."""

import re
from typing import Any

from markupsafe import Markup

LONGEST_NAME = 40

# folders from a root, a home, a drive or a server; not 3/4, and/or, a relative path, an address
_FOLDERS = re.compile(
    r"(?<![\w./\\])(?:file://|~|[A-Za-z]:|\\)?"  # where a path may begin
    r"(?:[/\\][\w.@+\- ]*[\w.@+\-])+[/\\]"  # its folders, up to the last separator
)
# control characters, halves of characters, and marks that turn the direction of what follows
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def plain(text: str) -> str:
    """Leave of a path its last name, and show what cannot be seen as a replacement character."""
    return _UNSEEN.sub("\ufffd", _FOLDERS.sub(".../", text))


def plain_value(value: Any) -> Any:
    """Do the same to text; markup, which only this room makes, stays as it is."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def sentence(text: str) -> str:
    """Begin a note as a sentence begins; a name that stands first keeps its spelling."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    is_word = first.rstrip(":,;").isalpha() and first.islower()
    return text[:1].upper() + text[1:] if is_word else text


def short(text: str, longest: int = LONGEST_NAME) -> str:
    """Cut a name that would fill a figure; the tables hold it whole."""
    text = plain(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"
