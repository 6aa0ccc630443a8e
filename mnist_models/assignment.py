"""The limits that a submission must keep, and the assignments known by name.

An assignment is data: frozen, comparable, and readable from a TOML file (`assignment_file`), so
that a course can check submissions against its own rules without touching this package.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Literal

IMAGES = 10_000  # the MNIST test set: accuracy limits are counted in its images

# md5 of the test tensors as `data.tensor_md5` takes it. The images' is that of
# t10k-images-idx3-ubyte after its header of 16 bytes; the labels' that of t10k-labels-idx1-ubyte
# after its header of 8 bytes, each label widened to 8 bytes, little-endian.
TEST_MD5 = {
    "held_out_images": "240610fa99e73bfa49df8e7fc24d3206",
    "held_out_labels": "c68af35e960ed5d39dce3477a31a5da0",
}

_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER = r"\d{1,3}(?:[,_]\d{3})+|\d+"  # 8000, 8,000 or 8_000
_LIMIT = re.compile(rf"\s*(<=|>=|<|>)\s*((?:{_NUMBER})(?:\.\d+)?)\s*(%?)\s*")
_LONGEST = 40  # characters of a limit: none that a network could meet takes more


class AssignmentError(ValueError):
    """An assignment that cannot be read: what was found, what was expected, what to do."""


@dataclass(frozen=True)
class Limit:
    """A bound on one measured number, such as ``< 8,000``."""

    relation: str
    value: int

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read ``"< 8000"``, ``"<= 15"`` or ``">= 99.4 %"`` (a share of the 10,000 test images).

        Raises:
            AssignmentError: the text is no relation followed by a number.
        """
        if len(text) > _LONGEST:  # Python would not even print a number of 5,000 digits
            raise AssignmentError(
                f"'{text[:20]}...' is a limit of {len(text):,} characters; expected such as "
                f"'< 8000', in at most {_LONGEST}"
            )
        match = _LIMIT.fullmatch(text)
        if match is None:
            raise AssignmentError(
                f"{text!r} is no limit; expected a relation and a number, such as '< 8000'"
            )
        relation, digits, percent = match.groups()
        try:
            value = Decimal(digits.replace(",", "").replace("_", ""))
        except InvalidOperation as error:  # pragma: no cover - the pattern admits only numbers
            raise AssignmentError(f"{digits!r} is no number") from error
        if percent:
            if value > 100:
                raise AssignmentError(f"{text!r} is more than 100 %")
            value = value * IMAGES / 100
        if value != value.to_integral_value():
            raise AssignmentError(f"{text!r} is no whole number; limits are counted in units")
        return cls(relation, int(value))

    def holds(self, measured: float) -> bool:
        """Whether a measured number keeps the bound."""
        return _RELATIONS[self.relation](measured, self.value)

    def __str__(self) -> str:
        return f"{self.relation} {self.value:,}"


@dataclass(frozen=True)
class Assignment:
    """What a submission must keep. ``None`` or ``False`` leaves a property unchecked.

    Attributes:
        name: short identifier, used on the command line.
        title: one line for people.
        parameters: bound on the number of parameters.
        batch_norm: BatchNorm must run: ``"once"``, or in ``"each-block"``, i.e. after every
            spatial convolution before the next one.
        dropout: likewise for Dropout.
        head: ``"gap"`` asks for global average pooling, ``"gap-or-fc"`` accepts a fully
            connected layer instead.
        receptive_field: bound in input pixels, at the input of the global pooling.
        epochs: bound on the number of training epochs.
        accuracy: bound on correctly classified test images out of 10,000, in the final epoch.
        consistent_epochs: the accuracy bound holds in every one of this many last epochs.
    """

    name: str
    title: str
    parameters: Limit | None = None
    batch_norm: Literal["once", "each-block"] | None = None
    dropout: Literal["once", "each-block"] | None = None
    head: Literal["gap", "gap-or-fc"] | None = None
    receptive_field: Limit | None = None
    epochs: Limit | None = None
    accuracy: Limit | None = None
    consistent_epochs: int | None = None


_ACCURATE = Limit(">=", 9_940)  # 99.4 % of 10,000 images, asked for by all five documents

CARD = Assignment(
    name="card",
    title="this project's card",
    parameters=Limit("<", 8_000),
    batch_norm="once",
    dropout="once",
    head="gap",
    receptive_field=Limit(">=", 20),
    epochs=Limit("<=", 15),
    accuracy=_ACCURATE,
    consistent_epochs=3,
)


def _smaller(parameters: int) -> Assignment:
    """The card for a smaller network: what it is made of, and no bound on its accuracy."""
    return replace(
        CARD,
        name=f"card-{parameters // 1_000}k",
        title=f"this project's card below {parameters:,} parameters",
        parameters=Limit("<", parameters),
        accuracy=None,
        consistent_epochs=None,
    )


CARD_4K, CARD_2K, CARD_1K = map(_smaller, (4_000, 2_000, 1_000))
ERA_V1_BLOCKS = Assignment(
    name="era-v1-blocks",
    title="ERA V1 session 7, three blocks",
    parameters=Limit("<", 8_000),
    epochs=Limit("<", 20),
    accuracy=_ACCURATE,
)
ERA_V1_STEPS = Assignment(
    name="era-v1-steps",
    title="ERA V1 session 7, in-depth coding practice",
    parameters=Limit("<", 8_000),
    epochs=Limit("<=", 15),
    accuracy=_ACCURATE,
    consistent_epochs=3,  # "consistently shown in your last few epochs": read as three
)
ERA_V3 = Assignment(
    name="era-v3",
    title="ERA V3 session 6",
    parameters=Limit("<", 20_000),
    batch_norm="once",
    dropout="once",
    head="gap-or-fc",
    epochs=Limit("<", 20),
    accuracy=_ACCURATE,
)
EVA4 = Assignment(
    name="eva4",
    title="EVA4 session 5",
    parameters=Limit("<=", 10_000),
    epochs=Limit("<=", 15),
    accuracy=_ACCURATE,
)
ATTEMPT = Assignment(
    name="attempt",
    title="Attempt-3",
    parameters=Limit("<", 8_000),
    batch_norm="each-block",
    dropout="each-block",
    receptive_field=Limit(">", 20),
    epochs=Limit("<", 15),
    accuracy=_ACCURATE,
    consistent_epochs=3,  # "with consistency": read as three
)

ASSIGNMENTS: dict[str, Assignment] = {
    assignment.name: assignment
    for assignment in (
        CARD,
        CARD_4K,
        CARD_2K,
        CARD_1K,
        ERA_V1_BLOCKS,
        ERA_V1_STEPS,
        ERA_V3,
        EVA4,
        ATTEMPT,
    )
}
