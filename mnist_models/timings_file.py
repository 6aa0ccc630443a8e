"""docs/performance.json as it is read: every number that follows from others is computed again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mnist_models.derived import agree, same
from mnist_models.files import read_text
from mnist_models.models import EXPERIMENTS
from mnist_models.schema import SchemaError, read
from mnist_models.timings import (
    ACCURACY,
    CHOICES,
    CONTENDERS,
    EPOCHS,
    FILE,
    Accuracy,
    Bench,
    Choices,
    Full,
    Ratio,
    Spread,
    Timings,
)

_HOUR = 3_600
_ARITHMETIC = ": arithmetic floor"
T = TypeVar("T")


class TimingsError(ValueError):
    """The stored timings cannot be read: what was found, what was expected."""


def read_timings(root: Path) -> Timings:
    """What stands in docs/performance.json below `root`; empty where there is no such file.

    Raises:
        TimingsError: it is damaged, or a number in it contradicts those that it follows from.
    """
    path = root / FILE
    found = Timings([], [], [])
    if not path.exists():
        return found
    try:
        tables = json.loads(read_text(path))
        for number, table in enumerate(tables if isinstance(tables, list) else [None]):
            where = f"[{number}]"
            kind = table.get("kind") if isinstance(table, dict) else None
            if kind == CONTENDERS:
                found.benches.append(read(Bench, table, where))
                _refuse_typed_bench(found.benches[-1], where)
            elif kind == CHOICES:
                found.choices.append(read(Choices, table, where))
                _refuse_typed_choices(found.choices[-1], where)
            elif kind == ACCURACY:
                found.accuracies.append(read(Accuracy, table, where))
            else:
                kinds = (CONTENDERS, CHOICES, ACCURACY)
                raise SchemaError(f"{where}.kind: expected one of {', '.join(kinds)}")
        places = [number for number, table in enumerate(tables) if table["kind"] == CHOICES]
        for number, choices in zip(places, found.choices, strict=True):  # of all benches there are
            _refuse_typed_rates(choices, found.benches, f"[{number}]")
    except (OSError, ValueError, RecursionError) as error:
        raise TimingsError(
            f"{FILE.as_posix()}: {error}; expected a list of what bench --log, with or without "
            "--choices or --accuracy, appended; restore it with git, or measure again"
        ) from error
    return found


def _refuse_typed_bench(bench: Bench, where: str) -> None:
    epochs = bench.seconds_per_epoch
    for name in ("seconds_per_epoch", "start_up", "scoring", "to_the_end"):
        for contender, spread in getattr(bench, name).items():
            agree(len(spread.rounds), bench.rounds, f"{where}.{name}.{contender}.rounds, in number")
    agree(len(bench.matrix_rate.rounds), bench.rounds, f"{where}.matrix_rate.rounds, in number")
    for contender, end in bench.to_the_end.items():
        parts = [
            _of(getattr(bench, name), contender, f"{where}.{name}").rounds
            for name in ("start_up", "seconds_per_epoch", "scoring")
        ]
        taken = [
            start + EPOCHS * (epoch + score) for start, epoch, score in zip(*parts, strict=True)
        ]
        agree(end.rounds, taken, f"{where}.to_the_end.{contender}.rounds")
    for contender, spread in epochs.items():
        if contender.endswith(_ARITHMETIC):
            name = contender.removesuffix(_ARITHMETIC)
            steps = _of(bench.steps_per_epoch, name, f"{where}.steps_per_epoch")
            operations = steps * _of(bench.flops_per_step, name, f"{where}.flops_per_step")
            least = [operations / rate for rate in bench.matrix_rate.rounds]
            agree(spread.rounds, least, f"{where}.seconds_per_epoch.{contender}.rounds")
    _refuse_typed_ratios(bench.ratios, epochs, f"{where}.ratios")
    _refuse_typed_ratios(bench.to_the_end_ratios, bench.to_the_end, f"{where}.to_the_end_ratios")
    if bench.full is not None:
        _refuse_typed_full(bench.full, f"{where}.full")


def _refuse_typed_ratios(
    ratios: Mapping[str, Ratio], seconds: Mapping[str, Spread], where: str
) -> None:
    for name, ratio in ratios.items():
        above, below = (_of(seconds, each, where).rounds for each in _sides(name))
        given = [a / b for a, b in zip(above, below, strict=True)]
        agree(ratio.rounds, given, f"{where}.{name}.rounds")


def _refuse_typed_full(full: Full, where: str) -> None:
    for name, seconds in full.seconds.items():
        right = _of(full.correct, name, f"{where}.correct")
        if not (seconds > 0 and 0 <= right <= full.total):
            raise SchemaError(
                f"{where}: found {right} of {full.total} correct after {seconds} s for {name}, "
                "expected no more than all, after more than 0 s"
            )
    for name, ratio in full.ratios.items():
        above, below = (_of(full.seconds, each, f"{where}.seconds") for each in _sides(name))
        agree(ratio, above / below, f"{where}.ratios.{name}")


def _sides(name: str) -> Sequence[str]:
    """The contenders of a ratio ``experiment: one / other``."""
    above, _, other = name.partition(" / ")
    return above, f"{above.partition(': ')[0]}: {other}"


def _refuse_typed_choices(choices: Choices, where: str) -> None:
    taken = {(each.experiment, each.variant): each.seconds_per_step for each in choices.choices}
    for number, choice in enumerate(choices.choices):
        rounds, place = len(choice.seconds_per_step.rounds), f"{where}.choices[{number}]"
        agree(rounds, choices.rounds, f"{place}.seconds_per_step.rounds, in number")
    for number, choice in enumerate(choices.choices):
        place, against = f"{where}.choices[{number}]", (choice.experiment, choice.against)
        if against not in taken:
            raise SchemaError(f"{place}.against: found {choice.against!r}, expected a variant")
        pairs = zip(choice.seconds_per_step.rounds, taken[against].rounds, strict=True)
        agree(choice.ratio.rounds, [a / b for a, b in pairs], f"{place}.ratio.rounds")


def _refuse_typed_rates(choices: Choices, benches: Sequence[Bench], where: str) -> None:
    """Runs an hour are those of so many steps, the same for all variants of an experiment."""
    steps: dict[str, float] = {}
    for number, choice in enumerate(choices.choices):
        name, place = choice.experiment, f"{where}.choices[{number}].runs_per_hour"
        if choice.runs_per_hour <= 0:
            raise SchemaError(f"{place}: found {choice.runs_per_hour}, expected a number above 0")
        stored = _HOUR / (choice.runs_per_hour * choice.seconds_per_step.median)
        known = list(_steps(name, benches))
        fitting = [count for count in known if same(stored, count)]
        steps.setdefault(name, (fitting or known or [stored])[0])
        expected = _HOUR / (steps[name] * choice.seconds_per_step.median)
        agree(choice.runs_per_hour, expected, place)


def _steps(experiment: str, benches: Sequence[Bench]) -> Iterator[float]:
    """Of a run: of as many epochs as bench assumes, or as the recipe has now."""
    registered = EXPERIMENTS.get(experiment)
    lengths = {EPOCHS} if registered is None else {EPOCHS, registered.recipe.epochs}
    for bench in benches:
        if experiment in bench.steps_per_epoch:
            yield from (epochs * bench.steps_per_epoch[experiment] for epochs in lengths)


def _of(table: Mapping[str, T], name: str, where: str) -> T:
    if name not in table:
        raise SchemaError(f"{where}.{name}: missing")
    return table[name]
