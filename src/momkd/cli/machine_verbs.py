"""Verbs about this machine."""

import typer

from momkd.cli.application import app


@app.command()
def doctor() -> None:
    """Examine this machine, with the exact line that mends what it lacks."""
    from momkd.workflows.doctor import doctor as run

    findings = run()
    width = max(len(f.what) for f in findings)
    for f in findings:
        mend = f"  ->  {f.remedy}" if f.remedy else ""
        typer.echo(f"{'ok' if f.well else '--'}  {f.what:<{width}}  {f.state}{mend}")
