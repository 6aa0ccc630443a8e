"""The published systems: what was claimed, what was measured here, and why they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mnist_models.assignment import CARD
from mnist_models.checks import CheckResult, check_built
from mnist_models.checks.record import check_record
from mnist_models.models import EXPERIMENTS, Claim, Experiment, System
from mnist_models.plural import counted
from mnist_models.record import Record
from mnist_models.report.markdown import table
from mnist_models.report.status import LAST, SHARE, accuracy, intervals
from mnist_models.statistics import Aggregate, Best, Comparison, aggregate, best, compare
from mnist_models.tables import percent

_HEADER = (
    "experiment",
    "parameters",
    "receptive field before / after the GAP",
    "claimed",
    "measured here, final epoch",
    f"seeds that kept {SHARE} in each of the {LAST}",
    "the claim",
)


@dataclass(frozen=True)
class Row:
    """One experiment: what its network is, what was claimed of it, what was measured here.

    Attributes:
        experiment: the experiment.
        parameters: counted on the network; None if unknown.
        before: receptive field in pixels at the input of the global pooling; None if unknown.
        after: likewise at the output.
        found: the aggregate of its records, against this project's card; None without records.
        difference: of an ablation, to what it ablates, over the seeds that both have.
        best: what its best epochs have, chosen on the test images; None without records.
        broken: of this project's own, which nothing excuses: the checks on its network and its
            records that do not pass on its assignment, and those on its network on the card.
    """

    experiment: Experiment
    parameters: int | None
    before: int | None
    after: int | None
    found: Aggregate | None
    difference: Comparison | None = None
    best: Best | None = None
    broken: tuple[str, ...] = ()

    @property
    def reproduced(self) -> bool | None:
        """Whether the mean less its spread reaches the claim; None without claim or record."""
        if self.experiment.claim is None or self.found is None:
            return None
        low = self.found.mean - (self.found.deviation or 0.0)
        return 100 * low / self.found.total >= self.experiment.claim.percent


def rows(records: Mapping[str, Sequence[Record]], system: System | None = None) -> list[Row]:
    """A row per experiment of one system, or of all, in registry order.

    Raises:
        SeedsError: the records of one experiment are no fair sample.
    """
    return [
        _row(experiment, records)
        for experiment in EXPERIMENTS.values()
        if system is None or experiment.system is system
    ]


def _row(experiment: Experiment, records: Mapping[str, Sequence[Record]]) -> Row:
    own = experiment.source is None  # nothing excuses it
    asked = dict.fromkeys((experiment.assignment, CARD)) if own else ()
    results, measured = check_built(experiment.build, *asked)
    checks = [check for found in results for check in found]
    group, base = records.get(experiment.name, ()), records.get(experiment.ablates or "", ())
    return Row(
        experiment,
        measured.parameters,
        measured.receptive_field_before_pooling,
        measured.receptive_field_output,
        aggregate(group, CARD) if group else None,
        compare(group, base),
        best(group),
        _broken([*checks, *_check_records(experiment, group)]) if own else (),
    )


def _check_records(experiment: Experiment, records: Sequence[Record]) -> Iterator[CheckResult]:
    for record in records:
        yield from check_record(record, experiment.assignment)


def _broken(checks: Iterable[CheckResult]) -> tuple[str, ...]:
    said = {False: "", None: " (unknown)"}
    return tuple(dict.fromkeys(f"{c.name}{said[c.passed]}" for c in checks if c.passed is not True))


def systems(*, published: bool) -> list[System]:
    """The systems in registry order: those of documents, or this project's own."""
    found = dict.fromkeys(experiment.system for experiment in EXPERIMENTS.values())
    return [system for system in found if (system.document is not None) == published]


def reproduction(found: Iterable[Row]) -> str:
    """The table of all experiments of the published systems, and why claims do not hold up."""
    shown = [row for row in found if row.experiment.source]
    lines = [
        (
            f"`{row.experiment.name}`",
            _count(row.parameters),
            f"{_pixels(row.before)} / {_pixels(row.after)}",
            claim_text(row.experiment.claim),
            accuracy(row.found),
            _kept(row.found),
            _judgement(row),
        )
        for row in shown
    ]
    return (
        table(_HEADER, lines) + "\nWhat does not hold up in the claims:\n\n" + "".join(_why(shown))
    )


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _pixels(field: int | None) -> str:
    return "unknown" if field is None else str(field)


def claim_text(claim: Claim | None) -> str:
    """What was claimed, in words: ``99.48 %``, and on which images where not on test images."""
    if claim is None:
        return "ablation"
    where = " of its training images" if claim.measured_on == "training" else ""
    return f"{claim.percent:.2f} %{where}"


def _kept(found: Aggregate | None) -> str:
    return "no record" if found is None else f"{found.consistent} of {found.seeds}"


def _judgement(row: Row) -> str:
    """What the measured numbers say of the claim."""
    claim, found = row.experiment.claim, row.found
    if claim is None:
        return _difference(row)
    if found is None:
        return "not measured yet"
    if claim.measured_on == "training":
        verdict = "above" if 100 * found.mean / found.total >= claim.percent else "below"
        return f"never measured on test images; the mean measured here lies {verdict} it"
    if found.deviation is None:
        return f"{'reached' if row.reproduced else 'not reached'} by the one seed"
    if row.reproduced:
        return "reached"
    low = percent(found.mean - found.deviation, found.total)
    return f"not reached: mean less deviation is {low}"


def _difference(row: Row) -> str:
    """What an ablation changed, in percentage points."""
    base, found = row.experiment.ablates, row.difference
    if found is None:
        return f"none; compare `{base}`"
    points = f"{100 * found.mean / found.total:+.2f} points"
    text = f"{points} against `{base}`, n = {counted(found.seeds, 'pair')}"
    if found.interval is not None:
        low, high = (f"{100 * bound / found.total:+.2f}" for bound in found.interval)
        text += f", 95 % interval {low} to {high}"
    return text + (f", p = {found.p:.2g}" if found.p is not None else "")


def _why(found: Iterable[Row]) -> Iterable[str]:
    for row in found:
        if row.experiment.claim is not None:
            problems = " ".join(row.experiment.claim.problems)
            yield f"- `{row.experiment.name}`: {problems}{_by_choice(row)}\n"


def _by_choice(row: Row) -> str:
    """What choosing an epoch on the test set is worth, as measured here; empty without records."""
    found = row.best
    if found is None or row.experiment.claim is None:
        return ""
    if row.experiment.claim.measured_on == "training":
        return ""  # its best epoch was not chosen on the test set
    if found.gain == 0:
        runs = "the run" if found.runs == 1 else f"any of the {found.runs} runs"
        return f" Here no epoch of {runs} is better than the last, by its test accuracy."
    mean, highest = percent(found.mean, found.total), percent(found.highest, found.total)
    of = "the run" if found.runs == 1 else f"the {found.runs} runs, in the mean,"
    most = "" if found.runs == 1 else f", and the best of them all {highest}"
    gain = f"{100 * found.gain / found.total:.2f} points"
    return (
        f" Chosen by its test accuracy, the best epoch of {of} here would be {mean}, {gain} above "
        f"the last{most}."
    )


def section(system: System, found: Iterable[Row], pictures: str = "") -> str:
    """One system: its findings, then target, result and analysis of every step.

    Args:
        system: the system.
        found: its rows.
        pictures: Markdown of its figures, or "".
    """
    notebook = f"notebooks/{system.name.replace('-', '_')}.ipynb"
    parts = []
    if system.document is not None:
        parts.append(
            f"### {system.title}\n\n"
            f"Document {system.document}, credited in [CITATION.cff](CITATION.cff); its claims are "
            f"re-checked in [{notebook}]({notebook}).\n\n"
        )
    if system.findings:
        parts.append("What does not hold up in it:\n\n")
        parts += [f"- {finding}\n" for finding in system.findings]
        parts.append("\n")
    parts.append(pictures)
    parts += [_step(row) for row in found]
    return "".join(parts)


def _step(row: Row) -> str:
    experiment = row.experiment
    claim = f"; claimed: {claim_text(experiment.claim)}" if experiment.claim else ""
    return (
        f"**`{experiment.name}`**, {_count(row.parameters)} parameters, receptive field "
        f"{_pixels(row.before)} / {_pixels(row.after)}\n\n"
        f"- Target: {experiment.target}\n"
        f"- Result: {_result(row.found)}{claim}.\n"
        f"- Analysis: {experiment.analysis}\n"
        f"{_misses(row)}\n"
    )


def _misses(row: Row) -> str:
    return f"- Limits: {limits(row)}.\n" if row.broken else ""


def limits(row: Row) -> str:
    """Whether one of this project's own keeps its limits, in words."""
    if row.broken:
        return f"**not kept**: {', '.join(row.broken)}"
    return "kept" if row.found else "kept by the network"  # what is asked of a training is unknown


def _result(found: Aggregate | None) -> str:
    if found is None:
        return "no record yet"
    one = found.seeds == 1
    kept = f"{_kept(found)} {'seed' if one else 'seeds'}"
    text = f"{accuracy(found)}; {kept} kept {SHARE} in each of the {LAST}"
    return text if one else f"{text} (95 % intervals: {intervals(found)})"
