"""What a browser would see of a page, and what every page of ours must keep to."""

import itertools
import re
from html import unescape
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}
FOREIGN = {"path", "circle"}
_TURNED = re.compile(r'translate\(11 (\d+)\) rotate\(-90\)">([^<]*)<')
_CHARACTER_PX = 5.5


class PageReader(HTMLParser):
    """Tags with attributes, text by tag, and whether everything that opens is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.scripts: list[str] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"{tag} is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if len(attrs) != len({name for name, _ in attrs}):
            self.faults.append(f"{tag} has an attribute twice")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in FOREIGN:
            self.faults.append(f"{tag} closes itself")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"{tag} is closed where it is not open")

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Give the attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


def faults_of(html: str) -> list[str]:
    """Say in what a page falls short: its form, what it would load, and who cannot read it."""
    page = PageReader(html)
    faults = list(page.faults)
    names = [tag for tag, _ in page.tags]
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name.startswith("on") or name == "style":
                faults.append(f"{tag} has {name}")
            if name in ("src", "href") and not (value or "").startswith(("data:image/", "#")):
                faults.append(f"{tag} points to {value}")
        if tag == "img" and not attributes.get("alt"):
            faults.append("img without alt")
        if tag == "svg" and not (attributes.get("aria-label") or attributes.get("aria-hidden")):
            faults.append("svg without a text alternative")
        if tag == "th" and attributes.get("scope") not in ("col", "row"):
            faults.append("th without scope")
    faults += [f"{t} is there" for t in {"iframe", "object", "form", "link", "base"} & set(names)]
    if names.count("caption") != names.count("table"):
        faults.append("a table without caption")
    if names.count("h1") != 1 or names.count("main") != 1 or names.count("script") != 1:
        faults.append("not one h1, main and script")
    levels = [int(n[1]) for n in names if n in ("h1", "h2", "h3", "h4")]
    if any(b - a > 1 for a, b in itertools.pairwise(levels)) or levels[:1] != [1]:
        faults.append(f"headings out of order: {levels}")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    if len(ids) != len(set(ids)):
        faults.append("an id twice")
    aims = [a["href"] for a in page.all("a")]
    faults += [f"{aim} leads nowhere" for aim in aims if aim is None or aim[1:] not in ids]
    if page.all("html") != [{"lang": "en"}]:
        faults.append("no language")
    # a turned label is set around its middle: what reaches beyond the chart is cut off
    faults += [
        f"the label {words!r} is longer than its axis"
        for middle, words in _TURNED.findall(html)
        if len(unescape(words)) * _CHARACTER_PX > 2 * int(middle)
    ]
    if "http://" in html or "https://" in html or "url(" in html or "@import" in html:
        faults.append("an address of elsewhere")
    return faults
