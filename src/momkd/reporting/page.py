"""What a page is made of: sections, and in them tables, charts, facts and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from markupsafe import Markup
from matplotlib.figure import Figure

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A figure with its interval, and why it is not defined where it is NaN."""

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The least and the greatest of several figures; sorted by the least."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of named cells under a caption; the first column names the row.

    A cell is text, a number (floats with three decimals), a :class:`Bounded` figure, a
    :class:`Span`, or None for "not defined"; a key that a row lacks is an empty cell.
    ``headings`` gives columns another name than their key; ``folded`` hides the table until it is
    asked for.
    """

    kind: ClassVar[str] = "table"
    caption: str
    rows: Sequence[Row]
    headings: Mapping[str, str] = field(default_factory=dict)
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart as inline SVG, which carries its own text alternative, and its caption."""

    kind: ClassVar[str] = "chart"
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """Charts side by side, with the legend they share: (name, look)."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]
    legend: Sequence[tuple[str, int]] = ()
    folded: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure with its caption and the text for those who cannot see it.

    ``figure`` is drawn, or the bytes of a PNG or JPEG file that was examined before.
    """

    kind: ClassVar[str] = "picture"
    figure: Figure | bytes
    caption: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Pairs of name and value."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Paragraphs, or the points of a list; ``warns`` sets them apart as an alarm."""

    kind: ClassVar[str] = "words"
    lines: Sequence[str]
    is_list: bool = False
    warns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A text file shown as it is, until then folded."""

    kind: ClassVar[str] = "listing"
    name: str
    text: str


Part = Table | Chart | Charts | Picture | Facts | Words | Heading | Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the page."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a page says, in the order it says it.

    ``alarms`` stand above everything: what a reader must know before any figure.
    """

    title: str
    sections: Sequence[Section]
    alarms: Sequence[str] = ()
    foot: str = ""
