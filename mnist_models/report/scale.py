"""The text of the generated blocks of docs/scale.md: what runs cost, and the arithmetic."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist_models.cost import Cost, costs, duration
from mnist_models.files import read_text
from mnist_models.plural import counted, singular
from mnist_models.record import Record
from mnist_models.report.markdown import ReportError, shown, table

SWEEPS = "sweeps.json"  # beside the document: what `sweep --log` appended
RUNS = 10_000
MACHINES = (1, 10, 100)
WORKERS = 16  # of a machine, one core each: an assumption of the arithmetic, no measurement
_HOUR = 3_600


def scale(records: Mapping[str, Sequence[Record]], folder: Path) -> dict[str, str]:
    """The text of every generated block of the document in `folder`, by name.

    Raises:
        ReportError: the stored sweeps cannot be read.
    """
    found = costs(record for group in records.values() for record in group)
    return {
        "cost": _cost_table(list(found.values())),
        "machines": _machines_table(list(found.values())),
        "sweeps": _sweeps_table(_sweeps(folder / SWEEPS)),
    }


def _cost_table(found: Sequence[Cost]) -> str:
    header = ("experiment", "records", "s an epoch, median", "fastest", "slowest", "epochs")
    lines = [
        (
            f"`{cost.experiment}`",
            str(cost.runs),
            f"{cost.epoch_seconds:.1f}",
            f"{cost.fastest:.1f}",
            f"{cost.slowest:.1f}",
            str(cost.epochs),
            duration(cost.run_seconds),
            duration(100 * cost.run_seconds),
            _devices(cost),
        )
        for cost in found
    ]
    text = table((*header, "one run", "100 runs, one after the other", "device"), lines)
    if any(device.startswith("cuda") for cost in found for device in cost.devices):
        return text
    return text + "\n**GPU: not measured**; no published record was trained on one.\n"


def how_long(name: str, records: Sequence[Record]) -> str:
    """How long one run of an experiment takes, in a sentence of Markdown."""
    if not records:
        return f"How long `{name}` takes no published record says.\n"
    cost = costs(records)[name]
    return (
        f"A seed of `{name}` trains for {duration(cost.run_seconds)}: "
        f"{counted(cost.epochs, 'epoch')} of {cost.epoch_seconds:.1f} s, the median over "
        f"{counted(cost.runs, 'published record')} ({_devices(cost)}).\n"
    )


def _devices(cost: Cost) -> str:
    said = shown("; ".join(map(singular, cost.devices)))
    return f"{said}, side by side" if cost.stacked else said


def _machines_table(found: Sequence[Cost]) -> str:
    header = ("experiment", f"{RUNS:,} runs, one after the other")
    lines = [
        (
            f"`{cost.experiment}`",
            f"{RUNS:,} x {cost.epochs} x {cost.epoch_seconds:.1f} s = "
            f"{RUNS * cost.run_seconds / _HOUR:,.0f} core-hours",
            *(duration(_wall(cost, machines)) for machines in MACHINES),
        )
        for cost in found
    ]
    return f"Of {WORKERS} workers each, which is assumed, not measured:\n\n" + table(
        (*header, *(_named(machines) for machines in MACHINES)), lines
    )


def _wall(cost: Cost, machines: int) -> float:
    """Whole rounds of runs: the last one takes as long where it is not full."""
    return -(-RUNS // (machines * WORKERS)) * cost.run_seconds


def _named(machines: int) -> str:
    return "1 machine" if machines == 1 else f"{machines} machines"


def _sweeps(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        found = json.loads(read_text(path))
        return [dict(sweep) for sweep in found]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ReportError(
            f"{path}: {error}; expected what sweep --log appends, each in a fresh --out"
        ) from error


def _sweeps_table(sweeps: Sequence[Mapping[str, Any]]) -> str:
    if not sweeps:
        return (
            "**Not measured yet**: it needs an otherwise idle machine, and "
            f"`sweep --log docs/{SWEEPS}` in a fresh `--out`.\n"
        )
    header = ("experiments", "runs", "epochs", "workers", "threads", "side by side", "wall")
    try:
        for number, sweep in enumerate(sweeps):
            _refuse_more_than_wall(sweep, f"docs/{SWEEPS}: [{number}]")
        lines = [_sweep_line(sweep) for sweep in sweeps]
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ReportError(f"docs/{SWEEPS}: no sweep that trained: {error!r}") from error
    return table((*header, "training", "training / wall", "device"), lines)


def _refuse_more_than_wall(sweep: Mapping[str, Any], where: str) -> None:
    """A worker trains no longer than the sweep takes; seeds side by side share its time."""
    wall, training, workers = sweep["wall_seconds"], sweep["trained_seconds"], sweep["workers"]
    if not isinstance(workers, int):  # the address of a cluster
        return
    most = wall * workers
    if not 0 <= training <= most:
        raise ReportError(
            f"{where}.trained_seconds: found {training}, expected from 0 to {most}: "
            f"wall_seconds {wall} for each of {workers} workers"
        )


def _sweep_line(sweep: Mapping[str, Any]) -> tuple[str, ...]:
    wall, training = float(sweep["wall_seconds"]), float(sweep["trained_seconds"])
    return (
        ", ".join(f"`{name}`" for name in sweep["experiments"]),
        str(sweep["counts"]["trained"]),
        str(sweep["epochs"]),
        str(sweep["workers"]),
        str(sweep["threads"]),
        str(sweep.get("stacked", 1)),  # earlier sweeps do not say
        duration(wall),
        duration(training),
        f"{training / wall:.2f}",
        shown(singular(str(sweep["device"]))),
    )
