"""The text of the generated blocks of docs/search.md: what each study found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_models.files import read_text
from mnist_models.plural import counted
from mnist_models.report.markdown import ReportError, table
from mnist_models.schema import SchemaError
from mnist_models.search.logged import refuse_typed

FOLDER = "search"  # beside the document: what `search --log` wrote, one file each

_DAMAGE = (  # what one finds in a file that is no study: no JSON, other fields, absurd numbers
    *(OSError, ValueError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RecursionError),
)


def searches(folder: Path) -> dict[str, str]:
    """The text of every generated block of the document in `folder`, one for each study.

    Raises:
        ReportError: a stored study cannot be read, or contradicts its own counts.
    """
    return {path.stem: _study(path) for path in sorted((folder / FOLDER).glob("*.json"))}


def _study(path: Path) -> str:
    try:
        found = json.loads(read_text(path))
        refuse_typed(found)
        return "\n".join([_question(found), _arms(found), *_effects(found)])
    except _DAMAGE as error:
        said = str(error) if isinstance(error, SchemaError) else repr(error)
        raise ReportError(
            f"{path}: {said}; expected what `search --log` writes: write it again"
        ) from error


def _question(found: Mapping[str, Any]) -> str:
    question, arms = found["question"], found["arms"]
    fixed = ", ".join(f"{key} = {value}" for key, value in question["fixed"].items())
    runs = sum(len(arm["correct"]) for arm in arms)
    data, pooled = question["data"], found["pooled_epochs"]
    seeds = "seed " if len(question["seeds"]) == 1 else "seeds "
    seeds += ", ".join(map(str, question["seeds"]))
    last = "the last epoch" if pooled == 1 else f"mean of the last {pooled} epochs"
    return (
        f"`{question['experiment']}`{f' with {fixed}' if fixed else ''}: "
        f"{counted(len(arms), 'arm')}, {counted(runs, 'run')}, {seeds}, scored on the "
        f"{data['split']} images of {data['name']}{_slice(data)}, {last}. Differences are to arm 0 "
        "over the same seeds, with the 95 % interval of their mean and the p of a paired t-test, "
        "not corrected for the number of arms.\n"
    )


def _slice(data: Mapping[str, Any]) -> str:
    """Which images they are, by the first digits of their md5: not all studies had the same."""
    md5 = data.get("md5", {}).get("held_out_images", "")
    return f" ({md5[:8]})" if md5 else ""


def _arms(found: Mapping[str, Any]) -> str:
    header = ("arm", "settings", "parameters", "n", "mean %", "sd", "loss", "difference", "p")
    return table(header, [_arm(arm) for arm in found["arms"]])


def _arm(arm: Mapping[str, Any]) -> tuple[str, ...]:
    settings = " ".join(f"`{key}={value}`" for key, value in arm["values"].items())
    state = "" if arm["state"] == "finished" else f" ({arm['state']}{_because(arm['cause'])})"
    difference = arm["difference"] or {}
    ends = difference.get("interval")
    shown = _signed(difference["mean"]) if difference else "-"
    return (
        str(arm["arm"]),
        (settings or "as it is") + state,
        _number(arm["parameters"], ","),
        str(len(arm["correct"])),
        _number(arm["mean"], ".3f"),
        _number(arm["deviation"], ".3f"),
        _number(arm.get("loss"), ".5f"),
        f"{shown} [{_signed(ends[0])}, {_signed(ends[1])}]" if ends else shown,
        _number(difference.get("p"), ".3f"),
    )


def _effects(found: Mapping[str, Any]) -> list[str]:
    """The mean of each value over the arms that had it, where several had the same."""
    effects = found["settings"]
    if all(effect["arms"] < 2 for effect in effects):
        return []
    lines = [
        (
            f"`{effect['setting']}={effect['value']}`",
            str(effect["arms"]),
            _number(effect["mean"], ".3f"),
            _number(effect["deviation"], ".3f"),
        )
        for effect in effects
    ]
    return [
        "Each value over all finished arms that had it, whatever their other settings:\n",
        table(("setting", "arms", "mean %", "sd"), lines),
    ]


def _because(cause: str) -> str:
    return f": {cause}" if cause else ""


def _signed(number: float) -> str:
    return f"{number:+.3f}"


def _number(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)
