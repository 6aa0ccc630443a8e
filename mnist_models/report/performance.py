"""The text of the generated blocks of docs/performance.md: what `bench` measured, and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mnist_models.cost import duration
from mnist_models.figures.catalogue import timing_picture
from mnist_models.plural import counted
from mnist_models.report.accuracies import accuracies
from mnist_models.report.earlier import earlier
from mnist_models.report.markdown import shown, table
from mnist_models.tables import digits
from mnist_models.timings import (
    EPOCHS,
    FILE,
    Accuracy,
    Bench,
    Choice,
    Choices,
    Measurement,
    Ratio,
    Spread,
    Timings,
    newest,
)

_FIGURES = "figures"  # beside the document
_UNMEASURED = (
    f"**Not measured yet**: `bench{{option}} --log {FILE.as_posix()}` does, on an otherwise idle "
    "machine.\n"
)
_VERDICTS = {True: "kept", False: "**broken**", None: ""}


def performance(timings: Timings) -> dict[str, str]:
    """The text of every generated block, by name."""
    benches, there = _by_device(newest(timings.benches))
    choices, choices_there = _by_device(newest(timings.choices))
    trained, trained_there = _by_device(newest(timings.accuracies))
    return {
        "hardware": _hardware([*timings.benches, *timings.choices, *timings.accuracies]),
        "figure": _figure(timings.benches),
        "earlier": earlier(timings),
        "contenders": _each(benches, _contenders) or _UNMEASURED.format(option=""),
        "ratios": _each(benches, _epoch_ratios) or _UNMEASURED.format(option=""),
        "to-the-end": _each(benches, _to_the_end) or _UNMEASURED.format(option=""),
        "choices": _each(choices, _choices) or _UNMEASURED.format(option=" --choices"),
        "accuracy": _each(trained, accuracies) or _UNMEASURED.format(option=" --accuracy"),
        "gpu": _each(there, _contenders, _epoch_ratios, _to_the_end)
        + _each(choices_there, _choices)
        + _each(trained_there, accuracies)
        or f"**GPU: not measured**; nothing in `{FILE.as_posix()}` was measured on one.\n",
    }


def _by_device(found: Sequence[Measurement]) -> tuple[list[Measurement], list[Measurement]]:
    """Those measured on a CPU, and those on a GPU."""
    cpu = [one for one in found if not one.provenance.device.startswith("cuda")]
    return cpu, [one for one in found if one not in cpu]


def _each(found: Sequence[Measurement], *parts: Callable[[Measurement], str]) -> str:
    """The parts of every measurement, below its device, where there are several or a GPU."""
    texts = ["\n".join(part(one) for part in parts) for one in found]
    if len(found) == 1 and not found[0].provenance.device.startswith("cuda"):
        return texts[0]
    return "\n".join(
        f"**{shown(one.provenance.device)}**\n\n{text}"
        for one, text in zip(found, texts, strict=True)
    )


def _hardware(found: Sequence[Bench | Choices | Accuracy]) -> str:
    if not found:
        return _UNMEASURED.format(option="")
    header = ("measured", "device", "threads", "versions", "rounds", "steps a round", "finished")
    rows = [
        (
            one.kind,
            shown(one.provenance.device),
            str(one.provenance.threads),
            shown(", ".join(map(" ".join, one.provenance.versions.items()))),
            *_turns(one),
            shown(one.provenance.finished),
        )
        for one in found
    ]
    return table(header, rows)


def _turns(one: Bench | Choices | Accuracy) -> tuple[str, str]:
    if isinstance(one, Accuracy):  # every training once, and to its end
        return "", ""
    return str(one.rounds), str(one.steps_per_round)


def _figure(benches: Sequence[Bench]) -> str:
    picture = timing_picture(benches)
    if picture is None:
        return "No figure before there is a measurement.\n"
    return f"![{picture.alt}]({_FIGURES}/{picture.file})\n"


def _contenders(bench: Bench) -> str:
    rows = [(name, *_spread(found)) for name, found in bench.seconds_per_epoch.items()]
    header = ("contender", "seconds an epoch, median", "lowest", "highest")
    flops = [
        f"`{name}` takes {flops:,} floating-point operations a training step"
        for name, flops in bench.flops_per_step.items()
    ]
    rate = f"a product of matrices runs at {digits(bench.matrix_rate.median / 1e9)} GFLOP/s"
    return f"{table(header, rows)}\n{bench.includes} {' '.join(bench.notes)}\n\n" + (
        f"{'; '.join([*flops, rate])}.\n"
    )


def _epoch_ratios(bench: Bench) -> str:
    return _ratios(bench.ratios)


def _ratios(ratios: Mapping[str, Ratio]) -> str:
    rows = [
        (name, *_spread(ratio), ratio.limit, _VERDICTS[ratio.passed])
        for name, ratio in ratios.items()
    ]
    return table(("ratio", "median", "lowest", "highest", "limit", ""), rows)


def _to_the_end(bench: Bench) -> str:
    header = ("contender", "start-up, s", "epoch, s", "scoring, s", f"{EPOCHS} epochs")
    rows = [
        (
            name,
            digits(bench.start_up[name].median),
            digits(bench.seconds_per_epoch[name].median),
            digits(bench.scoring[name].median),
            duration(end.median),
        )
        for name, end in bench.to_the_end.items()
    ]
    text = f"{table(header, rows)}\n{bench.formula}\n\n{_ratios(bench.to_the_end_ratios)}\n"
    return text + (_full(bench) or "**No contender was really trained to its end**.\n")


def _full(bench: Bench) -> str:
    full = bench.full
    if full is None:
        return ""
    rows = [
        (name, duration(seconds), f"{full.correct[name]:,} of {full.total:,}")
        for name, seconds in full.seconds.items()
    ]
    ratios = "; ".join(f"{name}: {digits(ratio)}" for name, ratio in full.ratios.items())
    return (
        f"Really trained for {counted(full.epochs, 'epoch')}, epoch by epoch in turn, start-up and "
        f"scoring included:\n\n{table(('contender', 'to the end', 'correct'), rows)}\n{ratios}.\n"
    )


def _choices(choices: Choices) -> str:
    header = ("variant", "ms a step", "runs an hour", "time over as built", "lowest", "highest")
    texts = []
    for name in dict.fromkeys(choice.experiment for choice in choices.choices):
        rows = [_choice(choice) for choice in choices.choices if choice.experiment == name]
        texts.append(table((f"`{name}`: {header[0]}", *header[1:], "faster"), rows))
    return "\n".join([*texts, f"{choices.includes}\n"])


def _choice(choice: Choice) -> tuple[str, ...]:
    itself = choice.variant == choice.against
    ratio = ("", "", "") if itself else _spread(choice.ratio)
    return (
        choice.variant,
        digits(1000 * choice.seconds_per_step.median),
        digits(choice.runs_per_hour),
        *ratio,
        "" if itself else _faster(choice),
    )


def _faster(choice: Choice) -> str:
    """Which is faster, where every round agrees."""
    if choice.ratio.lowest > 1:
        return choice.against
    return "the variant" if choice.ratio.highest < 1 else "the rounds disagree"


def _spread(found: Spread) -> tuple[str, str, str]:
    return digits(found.median), digits(found.lowest), digits(found.highest)
