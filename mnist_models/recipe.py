"""One training run as data: optimiser, schedule, batch, epochs, augmentation.

Every field carries its unit. A recipe says everything that, with a model, a seed and a data
set, decides a run; it imports nothing and runs nothing.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


class RecipeError(ValueError):
    """A number that no training can have: what was found, what was expected."""


@dataclass(frozen=True)
class Rotation:
    """Rotation by an angle drawn per image (torchvision's RandomRotation, nearest pixel)."""

    degrees: float  # the angle is uniform in [-degrees, degrees]


@dataclass(frozen=True)
class Affine:
    """Rotation, shift, scale and shear drawn per image (torchvision's RandomAffine)."""

    degrees: float  # the angle is uniform in [-degrees, degrees]
    translate: float = 0.0  # share of the image side, per axis, uniform in [-t, t]
    scale: tuple[float, float] = (1.0, 1.0)  # factor, uniform in [low, high]
    shear: float = 0.0  # degrees, parallel to the x axis, uniform in [-shear, shear]
    interpolation: Literal["nearest", "bilinear"] = "nearest"


@dataclass(frozen=True)
class Jitter:
    """Brightness and contrast factors drawn per image (torchvision's ColorJitter)."""

    brightness: float = 0.0  # factor, uniform in [1 - brightness, 1 + brightness]
    contrast: float = 0.0  # factor, uniform in [1 - contrast, 1 + contrast]


@dataclass(frozen=True)
class CropResize:
    """With a probability, the centre is cut out and enlarged to the full 28x28 image."""

    size: int  # side of the centre, in pixels
    probability: float  # share of the images that are cropped


@dataclass(frozen=True)
class Elastic:
    """Every pixel is moved by a smooth field drawn per image (after Simard and others, 2003)."""

    displacement: float  # pixels per axis, root mean square
    smoothness: float  # pixels, standard deviation of the Gaussian that blurs the field


@dataclass(frozen=True)
class Distortion:
    """An affine map and, within it, a smooth field, drawn per image.

    Both in one sampling, of the image with new rows and columns between its own: what is sampled
    twice, or from the pixels alone, is blurred, and a network that learns from blurred strokes
    answers sharp ones worse.
    """

    degrees: float  # the angle is uniform in [-degrees, degrees]
    translate: float  # share of the image side, per axis, uniform in [-t, t], in whole pixels
    scale: tuple[float, float]  # factor, uniform in [low, high]
    shear: float  # degrees, parallel to the x axis, uniform in [-shear, shear]
    displacement: float  # of the field, pixels per axis, root mean square
    smoothness: float  # pixels, standard deviation of the Gaussian that blurs the field


Transform = Rotation | Affine | Jitter | CropResize | Elastic | Distortion


@dataclass(frozen=True)
class Constant:
    """The learning rate never changes."""


@dataclass(frozen=True)
class Step:
    """The learning rate is multiplied by gamma every `every` epochs (torch's StepLR)."""

    every: int  # epochs
    gamma: float


@dataclass(frozen=True)
class Power:
    """The learning rate of epoch e (from 0) is base ** e times the first (torch's LambdaLR)."""

    base: float


@dataclass(frozen=True)
class Plateau:
    """Multiplied by factor after more than `patience` epochs without a fall of the training loss.

    torch's ReduceLROnPlateau; on the training loss, since nothing may be chosen by the test set.
    """

    factor: float
    patience: int  # epochs
    threshold: float = 1e-4  # share by which the loss must fall to count; torch's default


@dataclass(frozen=True)
class OneCycle:
    """Up from peak / start_divisor and down to zero within the run, per step (OneCycleLR)."""

    warm_up: float  # share of all steps on the way up
    start_divisor: float = 25.0  # torch's default
    anneal: Literal["cos", "linear"] = "cos"


Schedule = Constant | Step | Power | Plateau | OneCycle


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run but the model, the seed and the data."""

    optimizer: Literal["sgd", "adam", "adamw", "muon"]
    learning_rate: float  # the peak where the schedule is one-cycle
    batch_size: int  # images
    epochs: int
    momentum: float = 0.0  # SGD and Muon only
    nesterov: bool = False  # SGD only
    weight_decay: float = 0.0  # per unit of learning rate, as torch's optimisers take it
    schedule: Schedule = field(default_factory=Constant)
    augmentation: tuple[Transform, ...] = ()  # applied in this order
    plain_epochs: int = 0  # this many last epochs run without augmentation
    label_smoothing: float = 0.0  # probability mass spread over all classes
    average: float | None = None  # decay per step of the exponential moving average of weights
    margin: float = 0.0  # taken from the logit of the true class in training: it has to lead by it
    recount: bool = False  # at the end, BatchNorm's statistics anew, of the images as they are

    def __post_init__(self) -> None:
        bounds = {
            "learning_rate": self.learning_rate > 0,
            "batch_size": self.batch_size >= 1,
            "epochs": self.epochs >= 1,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay >= 0,
            "plain_epochs": self.plain_epochs >= 0,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "margin": 0 <= self.margin < math.inf,
            "average": self.average is None or 0 < self.average < 1,
        }
        if broken := [name for name, kept in bounds.items() if not kept]:
            raise RecipeError(f"no recipe has {broken[0]} = {getattr(self, broken[0])}")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready table; a schedule or transform carries its class name under ``kind``.

        `margin` and `recount` are in it only where they are set: records are older than they.
        """
        table = asdict(self)
        for name in ("margin", "recount"):
            if not table[name]:
                del table[name]
        table["schedule"] = {"kind": type(self.schedule).__name__} | asdict(self.schedule)
        table["augmentation"] = [
            {"kind": type(transform).__name__} | asdict(transform)
            for transform in self.augmentation
        ]
        plain: dict[str, Any] = json.loads(json.dumps(table))  # as a record holds it: no tuples
        return plain
