"""What a search varies: fields of a recipe, arguments of a network, and how they are written."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from torch import nn

from mnist_models.models import Experiment
from mnist_models.recipe import Recipe, RecipeError
from mnist_models.record import canonical

_RANGE = re.compile(r"(?P<low>[^.,]*(?:\.\d+)?)\.\.(?P<high>[^,]+)")


class SpaceError(ValueError):
    """Something that cannot be varied, or not so: what was found, what was expected."""


@dataclass(frozen=True)
class Choice:
    """A setting that takes one of these values, each as it was written."""

    name: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """The values as they are written."""
        return ",".join(self.values)


@dataclass(frozen=True)
class Range:
    """A setting that takes any number between two, even on a logarithmic scale."""

    name: str
    low: float
    high: float

    @property
    def text(self) -> str:
        """The range as it is written."""
        return f"{self.low:g}..{self.high:g}"


Setting = Choice | Range
Value = str | float | int


def read_setting(text: str) -> Setting:
    """Read ``name=value,value`` or ``name=low..high``.

    Raises:
        SpaceError: the text is neither.
    """
    name, equals, written = text.partition("=")
    values = tuple(value.strip() for value in written.split(","))
    if not equals or not name.strip() or not all(values):
        raise SpaceError(
            f"{text!r}: expected a setting and its values, such as learning_rate=0.1,0.2 or "
            "learning_rate=0.05..0.5"
        )
    if twice := [value for value in values if values.count(value) > 1]:
        raise SpaceError(f"{text!r}: expected each value once; {twice[0]} is there twice")
    match = _RANGE.fullmatch(written.strip())
    if match is None:
        return Choice(name.strip(), values)
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError:
        low = high = 0.0
    if not 0 < low < high < float("inf"):
        raise SpaceError(f"{text!r}: expected two numbers above 0, the smaller one first")
    return Range(name.strip(), low, high)


def vary(base: Experiment, values: Mapping[str, Value]) -> Experiment:
    """The experiment with these settings instead of its own, under a name that tells it apart.

    A setting is a field of the recipe (``learning_rate``), one of its schedule or of its
    augmentations (``schedule.warm_up``, ``augmentation.degrees``), or an argument of the network's
    builder. Values that are the experiment's own change nothing, not even the name.

    Raises:
        SpaceError: there is no such setting, or it cannot have that value.
    """
    recipe, arguments = base.recipe, {}
    own = {field.name for field in fields(Recipe)}
    for name, value in values.items():
        if name.split(".")[0] in own:
            recipe = _changed(recipe, name.split("."), name, value)
        else:
            arguments[name] = _argument(base, name, value)
    build = _with_arguments(base.build, arguments)
    if recipe == base.recipe and build is base.build:
        return base
    changed = {"recipe": recipe.to_dict(), "arguments": arguments}
    digest = hashlib.sha256(canonical(changed)).hexdigest()[:10]
    return replace(base, name=f"{base.name}.{digest}", recipe=recipe, build=build)


def is_whole(base: Experiment, name: str) -> bool:
    """Whether a setting takes whole numbers alone.

    Raises:
        SpaceError: it takes no number.
    """
    try:
        vary(base, {name: 1.5})
    except SpaceError:
        vary(base, {name: 1})
        return True
    return False


def _changed(holder: Any, path: Sequence[str], name: str, value: Value) -> Any:
    """The dataclass with the field at `path` replaced."""
    own = {field.name for field in fields(holder)}
    if path[0] not in own:
        raise SpaceError(
            f"{name}: {type(holder).__name__} has no {path[0]}; there are {', '.join(sorted(own))}"
        )
    present = getattr(holder, path[0])
    if len(path) == 1:
        hint = typing.get_type_hints(type(holder))[path[0]]
        try:
            return replace(holder, **{path[0]: _value(name, value, hint)})
        except RecipeError as error:
            raise SpaceError(f"{name}={value}: {error}") from error
    if isinstance(present, tuple):  # of augmentations: the one that has this field
        index = [i for i, part in enumerate(present) if hasattr(part, path[1])]
        if len(index) != 1:
            raise SpaceError(f"{name}: found in {len(index)} augmentations, expected in one")
        part = _changed(present[index[0]], path[1:], name, value)
        parts = (*present[: index[0]], part, *present[index[0] + 1 :])
        return replace(holder, **{path[0]: parts})
    if not is_dataclass(present):
        raise SpaceError(f"{name}: {path[0]} has no parts")
    return replace(holder, **{path[0]: _changed(present, path[1:], name, value)})


def _argument(base: Experiment, name: str, value: Value) -> Any:
    function = _function(base.build)
    parameters = inspect.signature(function).parameters
    if name not in parameters:
        known = [field.name for field in fields(Recipe)] + list(parameters)
        raise SpaceError(f"{base.name} has no setting {name!r}; there are {', '.join(known)}")
    return _value(name, value, typing.get_type_hints(function)[name])


def _function(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return build.func if isinstance(build, functools.partial) else build


def _with_arguments(
    build: Callable[..., nn.Module], arguments: Mapping[str, Any]
) -> Callable[[], nn.Module]:
    function = _function(build)
    given = build if isinstance(build, functools.partial) else functools.partial(build)
    bound = inspect.signature(function).bind_partial(*given.args, **given.keywords)
    bound.apply_defaults()
    if all(bound.arguments.get(name) == value for name, value in arguments.items()):
        return build
    return functools.partial(function, **(bound.arguments | dict(arguments)))


def _value(name: str, written: Value, hint: Any) -> Any:
    """What was written, as the type that the setting has."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    for kind in kinds:
        try:
            return _read(str(written), kind)
        except ValueError:
            continue
    raise SpaceError(f"{name}: found {written!r}, expected {_described(hint)}")


_UNIONS = (typing.Union, types.UnionType)


def _described(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        return "two numbers with a colon between, such as 0.9:1.1"
    return {float: "a number", int: "a whole number", bool: "true or false"}.get(hint, str(hint))


def _read(text: str, kind: Any) -> Any:
    """Read `text` as a value of this type; ValueError where it is none."""
    if kind is type(None):
        kind, text = Literal[None], text.replace("none", "None")
    if typing.get_origin(kind) is Literal:
        found = {str(value): value for value in typing.get_args(kind)}
        if text not in found:
            raise ValueError
        return found[text]
    if kind is bool:
        return {"true": True, "false": False}[text] if text in ("true", "false") else int("no")
    if typing.get_origin(kind) is tuple:
        parts = text.split(":")
        return tuple(
            _read(part, inner) for part, inner in zip(parts, typing.get_args(kind), strict=True)
        )
    if kind in (int, float, str):
        value = kind(text)
        if kind is float and not abs(value) < float("inf"):
            raise ValueError
        return value
    raise ValueError
