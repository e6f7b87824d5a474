"""Whether a comparison was made as the protocols of its runs laid it down."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from momkd.evaluation.comparison import Comparison
from momkd.workflows.frozen_protocol import NOT_FROZEN, FrozenProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolWord:
    """Notes that go with a comparison, and whether its method was named beforehand."""

    notes: tuple[str, ...] = ()
    named_beforehand: bool = False


def tell_of_protocols(
    frozen: Sequence[FrozenProtocol | None], runs: Sequence[Path], of: Comparison
) -> ProtocolWord:
    """Hold a comparison against the protocols of its runs.

    Parameters
    ----------
    frozen
        One a run, None where a run has none; nothing of tables, which have none to ask.
    runs
        Their folders, in the same order.
    """
    if not frozen:
        return ProtocolWord()
    pairs = [(run.resolve().name, one) for run, one in zip(runs, frozen, strict=True)]
    known = [(name, one) for name, one in pairs if one is not None]
    lacking = [name for name, one in pairs if one is None]
    if lacking:
        return ProtocolWord(notes=(f"run {', '.join(lacking)}: {NOT_FROZEN}",))
    method = of.method.split("/")[-1]
    others = [f"{name} names {one.method}" for name, one in known if one.method != method]
    notes = []
    if others:
        notes.append(
            f"the method {of.method} is not the one named beforehand ({', '.join(others)})"
        )
    else:
        when = "; ".join(f"{name} {one.frozen}, SHA-256 {one.sha256[:12]}" for name, one in known)
        notes.append(f"the method {of.method} was named in the protocol, before any test ({when})")
    compared = {of.method, *(pair.other for pair in of.pairs)}
    for name, one in known:
        notes += _of_run(one, of, {c.removeprefix(f"{name}/") for c in compared})
    late_method = any(method in one.added_late() for _, one in known)
    return ProtocolWord(
        notes=tuple(dict.fromkeys(notes)), named_beforehand=not others and not late_method
    )


def _of_run(frozen: FrozenProtocol, of: Comparison, compared: set[str]) -> list[str]:
    """Say in what a comparison departs from one protocol."""
    notes = []
    left = [name for name in frozen.models if name not in compared]
    if left:
        notes.append(
            f"not compared here, though the protocol names them: {', '.join(left)}; Holm p adjusts "
            "for the comparisons shown only"
        )
    late = [name for name in frozen.added_late() if name in compared]
    if late:
        notes.append(f"added when test predictions existed: {', '.join(late)}")
    endpoint = frozen.content["primary_endpoint"]["metric"]
    if of.metric != endpoint:
        notes.append(
            f"the metric {of.metric} is not the primary endpoint of the protocol ({endpoint})"
        )
    rope = frozen.content["comparison"]["rope"]
    if of.rope != rope:
        notes.append(f"the protocol lays down a region of {rope}, not {of.rope}")
    return notes
