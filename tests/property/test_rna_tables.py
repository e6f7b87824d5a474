"""Generated RNA tables parse exactly or are refused: never a wrong value, never a surprise."""

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from momkd.data.expression import RnaReading, read_expression
from momkd.data.rna.number_cells import NumberReader, quick_numbers
from momkd.errors import MomkdError, Problem

GENES = ["ERBB2", "PGR", "TP53", "NA", "nan", "H1-2", "RP11-206L10.9", "AC0001.1", "ESR1"]
BAD = [
    "",
    "NA",
    "x",
    "1,5",
    "1.234,5",
    "<0.01",
    "1e-400",
    "1e400",
    "0x1A",
    "inf",
    "1_0",
    "١",
    "--1",
    "1e",
    ".",
]


@dataclass(frozen=True)
class Written:
    """A table as text, and what it has to load to.

    ``faults`` are the codes of what is wrong, ``spoilt`` the genes with cells that are no numbers.
    """

    content: bytes
    name: str
    cases: list[str]
    genes: list[str]
    values: np.ndarray
    faults: frozenset[str]
    spoilt: frozenset[str]


numbers = st.one_of(
    st.decimals(-50, 29, places=4).map(str),
    st.decimals(-3, 3, places=15).map(str),
    st.integers(-20, 29).map(str),
    st.floats(-29, 29, allow_nan=False).map(repr),
    st.sampled_from(
        ["0", "-0", "+1.5", ".5", "5.", "1e-3", "1E2", "-2.5e+00", "0.30000000000000004"]
    ),
)


@st.composite
def tables(draw: st.DrawFn) -> Written:
    n_cases, n_genes = draw(st.integers(1, 7)), draw(st.integers(1, len(GENES)))
    genes = draw(st.permutations(GENES))[:n_genes]
    cases = [f"TCGA-{draw(st.sampled_from(['AA', 'B1']))}-{i:04d}" for i in range(n_cases)]
    tail = draw(st.sampled_from(["", "-01", "-01A", "-01A-11R-A12P-07"]))
    cells = [[draw(numbers) for _ in genes] for _ in cases]
    values = np.array([[float(c) for c in row] for row in cells], np.float32)
    faults: set[str] = set()
    spoilt: set[str] = set()
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        i, j = draw(st.integers(0, n_cases - 1)), draw(st.integers(0, n_genes - 1))
        cells[i][j] = draw(st.sampled_from(BAD))
        faults |= {"O06", "O17", "O16"}
        spoilt.add(genes[j])
    ids = [f"{c}{tail}" for c in cases]
    turned = draw(st.booleans())
    corners = ["gene", "Hugo_Symbol", "sample", ""] if turned else ["case_id", "sample_id", ""]
    corner = draw(st.sampled_from(corners))
    grid = [[corner, *genes], *([i, *row] for i, row in zip(ids, cells, strict=True))]
    if draw(st.booleans()) and not turned:
        grid = [
            [*row[:1], extra, *row[1:]]
            for row, extra in zip(grid, ["site", *"ABCDEFG"], strict=False)
        ]
    if turned:
        grid = [list(row) for row in zip(*grid, strict=True)]
    if draw(st.integers(0, 9)) == 0 and len(grid) > 1:
        place = draw(st.integers(1, len(grid) - 1))
        grid[place] = grid[place][:-1] if draw(st.booleans()) else [*grid[place], "1"]
        faults = {"O16"}
    return Written(
        content=_write(draw, grid),
        name=_name(draw),
        cases=cases,
        genes=genes,
        values=values,
        faults=frozenset(faults),
        spoilt=frozenset(spoilt),
    )


def _write(draw: st.DrawFn, grid: list[list[str]]) -> bytes:
    text = io.StringIO()
    how = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    by = draw(st.sampled_from(",\t;"))
    csv.writer(text, delimiter=by, quoting=how, lineterminator=end).writerows(grid)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]))
    content = text.getvalue().encode(encoding)
    return gzip.compress(content) if draw(st.booleans()) else content


def _name(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["a.csv", "a.tsv", "a.txt.gz", "a"]))


def _read(path: Path) -> tuple[RnaReading | None, tuple[Problem, ...]]:
    """Read a table, or give the problems; any other exception is the test's failure."""
    try:
        return read_expression(path), ()
    except MomkdError as refusal:
        return None, refusal.problems


def check_table(folder: Path, written: Written) -> None:
    """Read a table: every number as it was written, or a refusal that a fault explains.

    A column without any plain number is taken for clinical and left out, by name.
    """
    path = folder / written.name
    path.write_bytes(written.content)
    reading, problems = _read(path)
    if reading is None:
        assert {p.code for p in problems} <= written.faults, (problems, written)
        return
    assert written.faults != {"O16"}, "rows of unequal length were read"
    expression = reading.expression
    left = [g for g in written.genes if g not in expression.genes]
    assert set(left) == written.spoilt, "a cell that is no number was read as one"
    said = [n.split(": ")[-1].split(", ") for n in reading.notes if "not expression" in n]
    assert all(any(g in names for names in said) for g in left), (reading.notes, written)
    kept = [i for i, g in enumerate(written.genes) if g not in left]
    assert list(expression.genes) == [written.genes[i] for i in kept]
    assert list(expression.case_ids) == written.cases
    wanted = written.values[:, kept]
    if "RNA: log2(x + 1) taken" in reading.notes:
        wanted = np.log2(wanted + 1)
    assert np.array_equal(expression.values, wanted), written


quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
many = settings(
    max_examples=5000,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@quick
@given(written=tables())
def test_tables_parse_exactly_or_are_refused(tmp_path: Path, written: Written) -> None:
    check_table(tmp_path, written)


@pytest.mark.slow
@many
@given(written=tables())
def test_5000_tables_parse_exactly_or_are_refused(tmp_path: Path, written: Written) -> None:
    check_table(tmp_path, written)


cells = st.one_of(numbers, st.sampled_from(BAD), st.text("0123456789.+-eE, ", max_size=20))


@settings(max_examples=200, deadline=None)
@given(row=st.lists(cells, min_size=1, max_size=12))
def test_numbers_read_at_once_are_those_read_one_by_one(row: list[str]) -> None:
    plain = [c.replace(",", "") for c in row]
    reader = NumberReader(Path("x"))
    slow = reader.read(1, plain, plain, plain)
    text = ",".join(plain)
    found = quick_numbers(text.encode(), b",", len(plain)) if text.isascii() else None
    if found is None:
        assert not text.isascii() or np.isnan(slow).any()
    else:
        assert found.tobytes() == slow.tobytes()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    written=tables(),
    where=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_damaged_bytes_never_surprise(
    tmp_path: Path, written: Written, where: float, byte: int, cut: bool
) -> None:
    content = bytearray(written.content)
    place = int(where * len(content))
    if cut:
        del content[place:]
    else:
        content[place] = byte
    (tmp_path / written.name).write_bytes(content)
    _, problems = _read(tmp_path / written.name)
    assert all(len(p.line()) <= 300 for p in problems)
