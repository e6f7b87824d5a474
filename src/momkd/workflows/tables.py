"""Results as text tables, the same on a terminal and in a pipe."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from momkd.data.receptor_status import RULES

if TYPE_CHECKING:  # these bring in the rooms of their verbs, and a table needs none of them
    from momkd.workflows.check import CheckReport
    from momkd.workflows.compare import ComparisonReport
    from momkd.workflows.export_tables import ExportReport
    from momkd.workflows.inspect import Inspection
    from momkd.workflows.labels import LabelReport


def make_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Set rows in aligned columns; floats with three decimals, undefined ones as ``n/a``."""
    if not rows:
        return "(none)"
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[_cell(row.get(c, "")) for c in columns] for row in rows]
    widths = [max(len(c), *(len(r[i]) for r in cells)) for i, c in enumerate(columns)]
    lines = [columns, *cells]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def show_check(report: "CheckReport") -> None:
    """Print what a check found."""
    for note in report.notes:
        typer.echo(note)
    typer.echo("\ncounts")
    typer.echo(make_table([{"what": k, "n": v} for k, v in report.counts.items()]))
    typer.echo("\nleft out")
    typer.echo(make_table([{"reason": k, "n": v} for k, v in report.dropped.items()]))
    if report.proof.sites is not None:
        typer.echo("\nsites and labels")
        typer.echo(make_table(report.proof.sites.rows))
    typer.echo(f"\nprotocol: {report.proof.protocol}")
    for statement in report.proof.statements:
        typer.echo(f"  {statement}")
    typer.echo("\nfolds of the first seed")
    typer.echo(make_table(report.proof.rows))
    typer.echo(f"\ndigests: {report.manifest}")
    typer.echo(f"ready: momkd crossval -c {report.config} -o runs/{report.config.stem}")


def show_labels(report: "LabelReport") -> None:
    """Print what a rule made of a clinical table."""
    for note in report.notes:
        typer.echo(note)
    typer.echo(f"rule {report.rule}: {RULES[report.rule]}\n")
    typer.echo(make_table(report.counts))
    if report.her2_table:
        typer.echo("\nHER2: IHC against ISH as recorded (cases; + positive, - negative, ? unknown)")
        typer.echo(make_table(report.her2_table))
    typer.echo("\nwhy")
    typer.echo(make_table(report.reasons))
    typer.echo(f"\nwrote {report.path}: {report.n_cases} cases")


def show_export(report: "ExportReport") -> None:
    """Print what was written, and what the convention cannot say."""
    for note in report.notes:
        typer.echo(note)
    typer.echo(f"wrote {report.folder}: {len(report.files)} files")


def show_files(inspection: "Inspection") -> None:
    """Print what ``inspect`` learnt."""
    for one in inspection.found:
        typer.echo("\n  ".join(one.lines()))


def show_metrics(folder: Path) -> None:
    """Print ``metrics.json`` of a run as one row a model."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    typer.echo(metrics_table(metrics))
    for note in metrics["notes"]:
        typer.echo(note)
    typer.echo(f"report: {folder / 'report.html'}")


def show_protocol(folder: Path) -> None:
    """Print what was frozen in a run folder, and that nothing was trained yet."""
    frozen = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("protocol")
    if frozen is None:
        typer.echo("nothing was frozen: test predictions of this run came before a protocol")
        return
    typer.echo(f"protocol: {folder / 'protocol.json'}, frozen {frozen['frozen']}")
    typer.echo(f"SHA-256 {frozen['sha256']}; method named beforehand: {frozen['method']}")
    typer.echo("this command trained nothing; the same without --freeze goes on")


def show_comparison(report: "ComparisonReport") -> None:
    """Print a comparison: its table, what the columns are, and what may be claimed."""
    typer.echo(make_table(report.rows))
    for line in report.about:
        typer.echo(line)
    typer.echo("\nmay be claimed")
    for sentence in report.claims.may:
        typer.echo(f"- {sentence}")
    typer.echo("\nmay not be claimed")
    for sentence in report.claims.may_not:
        typer.echo(f"- {sentence}")
    if report.folder is not None:
        typer.echo(f"\nwritten: {report.folder / 'comparison.json'}, comparison.csv")


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Set the headline figures of every model, with their intervals."""
    rows = []
    for name, entry in metrics["models"].items():
        row: dict[str, Any] = {"model": name, "cases": entry["n_cases"], "fits": entry["n_fits"]}
        for key in metrics["shown"]:
            found = entry["mean_over_folds"][key]
            row[key] = with_interval(found["value"], found["low"], found["high"])
        rows.append(row)
    return make_table(rows)


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Write a figure with its interval, ``0.712 [0.655, 0.768]``."""
    if value is None or math.isnan(value):
        return "n/a"
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "n/a" if math.isnan(value) else f"{value:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return "" if value is None else str(value)
