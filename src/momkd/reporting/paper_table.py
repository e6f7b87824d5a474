"""A table as papers print it, in Markdown and in LaTeX; any text of a user comes out as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase

from momkd.reporting.words import plain

_MARKDOWN = {c: f"\\{c}" for c in "\\`*_|"} | {"<": "&lt;", ">": "&gt;"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
} | {c: f"\\{c}" for c in "&%$#_"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Footnote:
    """A remark; with ``column``, the key of the column whose heading carries its mark."""

    text: str
    column: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """A table, or the numbers behind a figure.

    Parameters
    ----------
    name, number
        A file's stem and LaTeX's label; and what the paper calls it, ``Table 1``.
    title, caption
        What it is, and of what the figures are.
    headings
        Key -> heading, in the order of the columns. The first column is set to the left.
    rows
        Key -> text; what a row lacks is blank.
    footnotes
        Marked ones follow the order of the columns.
    warning
        What has to be read first; empty where nothing has.
    page_only
        Columns that LaTeX leaves out: where the numbers lie on this machine.
    paragraphs
        Lists under a heading each, on the page only.
    figure
        Whether ``<name>.svg`` and ``<name>.pdf`` lie beside.
    """

    name: str
    number: str
    title: str
    caption: str
    headings: Mapping[str, str]
    rows: Sequence[Mapping[str, str]]
    footnotes: Sequence[Footnote] = ()
    warning: str = ""
    page_only: Sequence[str] = ()
    paragraphs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    figure: bool = False

    def marks(self) -> dict[str, list[tuple[str, str]]]:
        """Give the marked remarks of each column as (mark, text); beyond z they are numbered."""
        found: dict[str, list[tuple[str, str]]] = {}
        n = 0
        for key in self.headings:
            for note in self.footnotes:
                if note.column == key:
                    mark = ascii_lowercase[n] if n < len(ascii_lowercase) else str(n + 1)
                    found.setdefault(key, []).append((mark, note.text))
                    n += 1
        return found

    def remarks(self) -> list[str]:
        """Give the remarks that no column carries."""
        return [note.text for note in self.footnotes if note.column not in self.headings]


def markdown_of(table: PaperTable) -> str:
    """Set a table as Markdown: warning, caption, figure, table, remarks."""
    marks = table.marks()
    title = f"{table.number}. {table.title}"
    lines = [f"# {escape_markdown(title)}", "", escape_markdown(table.caption), ""]
    if table.warning:
        lines += [f"> **{escape_markdown(table.warning)}**", ""]
    if table.figure:
        lines += [f"![{escape_markdown(title)}]({table.name}.svg)", ""]
    heads = []
    for key, heading in table.headings.items():
        own = ",".join(mark for mark, _ in marks.get(key, ()))
        heads.append(escape_markdown(heading) + (f"<sup>{own}</sup>" if own else ""))
    sides = ["---", *["---:"] * (len(heads) - 1)]
    lines += [_bar(heads), _bar(sides)]
    lines += [_bar([escape_markdown(row.get(k, "")) for k in table.headings]) for row in table.rows]
    lines.append("")
    for own_notes in marks.values():
        lines += [f"<sup>{mark}</sup> {escape_markdown(text)}\n" for mark, text in own_notes]
    lines += [f"{escape_markdown(text)}\n" for text in table.remarks()]
    for heading, told in table.paragraphs.items():
        lines += [f"## {escape_markdown(heading)}", ""]
        lines += [*(f"- {escape_markdown(text)}" for text in told), ""]
    return "\n".join(lines).rstrip() + "\n"


def latex_of(table: PaperTable) -> str:
    """Set a table as LaTeX with booktabs; with a figure, the figure stands above it."""
    marks = table.marks()
    keys = [key for key in table.headings if key not in table.page_only]
    caption = escape_latex(" ".join([f"{table.title}.", table.caption, table.warning]).strip())
    lines = [f"% {table.number}", r"% \usepackage{booktabs}"]
    if table.figure:
        lines += [
            r"% \usepackage{graphicx}",
            *(r"\begin{figure*}[t]", r"\centering"),
            rf"\includegraphics[width=\linewidth]{{{table.name}.pdf}}",
            *(rf"\caption{{{caption}}}", rf"\label{{fig:momkd-{table.name}}}", r"\end{figure*}"),
        ]
    lines += [r"\begin{table*}[t]", r"\centering\small", rf"\caption{{{caption}}}"]
    lines += [rf"\label{{tab:momkd-{table.name}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(keys) - 1)}}}", r"\toprule"]
    heads = []
    for key in keys:
        own = ",".join(mark for mark, _ in marks.get(key, ()))
        mark = rf"\textsuperscript{{{own}}}" if own else ""
        heads.append(escape_latex(table.headings[key]) + mark)
    lines += [_ampersand(heads), r"\midrule"]
    lines += [_ampersand([escape_latex(row.get(k, "")) for k in keys]) for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    told = [
        rf"\textsuperscript{{{mark}}}\,{escape_latex(text)}"
        for key in keys
        for mark, text in marks.get(key, ())
    ]
    told += [escape_latex(text) for text in table.remarks()]
    if told:
        lines += [r"\par\medskip\begin{minipage}{\linewidth}\footnotesize"]
        lines += [rf"{text}\par" for text in told]
        lines += [r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def escape_markdown(text: str) -> str:
    """Make text that Markdown shows as it is, on one line."""
    return "".join(_MARKDOWN.get(c, c) for c in " ".join(plain(text).split()))


def escape_latex(text: str) -> str:
    """Make text that LaTeX sets as it is, on one line.

    What begins with a bracket or an asterisk is kept from being taken for an argument of the line
    break before it.
    """
    set_ = "".join(_LATEX.get(c, c) for c in " ".join(plain(text).split()))
    return "{}" + set_ if set_[:1] in ("[", "*") else set_


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ampersand(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
