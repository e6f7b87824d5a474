"""Tables as papers print them: what is escaped, what is marked, what LaTeX leaves out."""

import numpy as np
import pytest

from momkd.reporting.figures import pdf_of, svg_of
from momkd.reporting.paper_figures import Panel, Traces, draw_by_epoch, draw_by_size
from momkd.reporting.paper_table import (
    Footnote,
    PaperTable,
    escape_latex,
    latex_of,
    markdown_of,
)


def a_table(**changes: object) -> PaperTable:
    content = {
        "name": "table9",
        "number": "Table 9",
        "title": "Methods & more",
        "caption": "10 % of 3_000 cases.",
        "headings": {"method": "method", "auroc": "AUROC", "run": "run"},
        "rows": [
            {"method": "a|b_1", "auroc": "79.6 ± 2.1", "run": "runs/a"},
            {"method": "[b]", "auroc": "[1.0, 2.0]", "run": "runs/b"},
        ],
        "footnotes": [
            Footnote(text="of all"),
            Footnote(text="of runs", column="run"),
            Footnote(text="first of AUROC", column="auroc"),
            Footnote(text="second of AUROC", column="auroc"),
        ],
        "page_only": ("run",),
        "paragraphs": {"Sources": ["runs/a: 1"]},
    }
    return PaperTable(**content | changes)


def test_markdown_shows_all_and_marks_headings_in_their_order() -> None:
    text = markdown_of(a_table(warning="Only a trial."))
    lines = text.splitlines()
    assert lines[0] == "# Table 9. Methods & more"
    assert "> **Only a trial.**" in lines
    assert "| method | AUROC<sup>a,b</sup> | run<sup>c</sup> |" in lines
    assert r"| a\|b\_1 | 79.6 ± 2.1 | runs/a |" in lines
    notes = [line for line in lines if line.startswith("<sup>")]
    assert notes == [
        "<sup>a</sup> first of AUROC",
        "<sup>b</sup> second of AUROC",
        "<sup>c</sup> of runs",
    ]
    assert lines.index("of all") > lines.index(notes[-1])
    assert lines[-3:] == ["## Sources", "", "- runs/a: 1"]


def test_latex_leaves_out_what_belongs_to_the_machine() -> None:
    text = latex_of(a_table(warning="Only a trial."))
    assert "runs/" not in text
    assert "of runs" not in text
    assert r"\caption{Methods \& more. 10 \% of 3\_000 cases. Only a trial.}" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"method & AUROC\textsuperscript{a,b} \\" in text
    assert r"a\textbar{}b\_1 & 79.6 $\pm$ 2.1 \\" in text
    # after a line break a bracket would be read as its argument
    assert r"{}[b] & {}[1.0, 2.0] \\" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 3
    assert "includegraphics" not in text
    assert r"\includegraphics[width=\linewidth]{table9.pdf}" in latex_of(a_table(figure=True))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"50 % & $x_1^2$ #3", r"50 \% \& \$x\_1\textasciicircum{}2\$ \#3"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("a~b<c>d", r"a\textasciitilde{}b\textless{}c\textgreater{}d"),
        ("two\nlines\tone", "two lines one"),
        ("* starred", "{}* starred"),
    ],
)
def test_latex_is_escaped(text: str, wanted: str) -> None:
    assert escape_latex(text) == wanted


def test_medians_are_of_the_trainings_that_reached_an_epoch() -> None:
    traces = Traces(
        name="positive",
        epochs=[[0.0, 1.0, 2.0], [0.0, 1.0], [0.0]],
        values=[[0.1, 0.5, 0.9], [0.3, float("nan")], [0.8]],
    )
    epochs, middle, low, high = traces.medians()
    assert epochs == [0.0, 1.0, 2.0]
    assert middle == pytest.approx([0.3, 0.5, 0.9])
    assert (low[0], high[0]) == (0.1, 0.8)


def test_figures_are_the_same_bytes_twice_and_hold_their_words() -> None:
    traces = Traces(name="HER2+", epochs=[[0.0, 1.0]], values=[[0.2, 0.4]])
    panels = [Panel(label="share", traces=[traces], top=1.0), Panel(label="p", traces=[traces])]

    def by_epoch() -> tuple[str, bytes]:
        figure = draw_by_epoch(panels, foot="profile quick")
        return svg_of(figure), pdf_of(figure)

    svg, pdf = by_epoch()
    assert (svg, pdf) == by_epoch()
    for word in ("HER2+", "share", "epoch", "profile quick"):
        assert word in svg
    assert pdf.startswith(b"%PDF-")
    assert b"CreationDate" not in pdf


def test_intervals_stand_around_their_values() -> None:
    figure = draw_by_size(
        [2, 16],
        [0.6, 0.7],
        [0.5, np.nan],
        [0.65, np.nan],
        labels=("slots", "AUROC"),
        foot="",
    )
    (axis,) = figure.axes
    ((_, _, (bars,)),) = axis.containers
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends[0] == pytest.approx([0.5, 0.65])
    assert ends[1] == pytest.approx([0.7, 0.7])
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["2", "16"]
