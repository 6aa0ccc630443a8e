"""The published systems, layer by layer and field by field, as their documents give them."""

from __future__ import annotations

import pytest
from torch import nn

from mnist_models.models import EXPERIMENTS
from mnist_models.recipe import (
    Affine,
    Constant,
    CropResize,
    Jitter,
    Plateau,
    Power,
    Recipe,
    Rotation,
    Step,
)

_WIDE = (
    "c3:10 r b d.08 c3:10 r b d.08 c1:10 mp2 c3:16 r b d.08 c3:16 r b d.08 c3:16 r b d.08 "
    "c3:16p1 r b d.08 avg6 c1:10"
)
_SQUEEZED = (
    "c3:32 r b e.01 c1:8 r b e.01 c3:10 r b e.01 mp2 c3:16p1 r b e.01 c1:10 r b e.01 "
    "c3:10 r b e.01 c3:16 r b e.01 c3:16 r b e.01 avg6 c1:10"
)
_DROPPED = (
    "c3:8 r b d.05 c3:16 r b d.05 mp2 c1:8 c3:16 r b d.05 c3:24 r b d.05 avg8 "
    "c1:32 r b d.05 c1:16 r b d.05 c1:10"
)
# c3:16p1s2b is a 3x3 convolution to 16 channels, padding 1, stride 2, with bias; r ReLU, b
# BatchNorm, d Dropout, e Dropout2d, mp max-pool, avg average-pool, fc fully connected.
LAYERS = {
    "blocks-1": (
        "c3:16b r b d.05 c3:32b r b d.05 c1:8b mp2 c3:16b r b d.05 c3:32b r b d.05 c1:16b mp2 "
        "c3:32b r avg2 fc:10"
    ),
    "blocks-2": _SQUEEZED,
    "blocks-3": _SQUEEZED,
    "steps-1": "c3:16 r c3:32 r c1:10 mp2 c3:16 r c3:16 r c3:16 r c3:16p1 r avg6 c1:10",
    "steps-2": "c3:8 r c3:16 r mp2 c1:8 c3:16 r c3:24 r avg8 c1:32 r c1:16 r c1:10",
    "steps-3": "c3:8 r b c3:16 r b mp2 c1:8 c3:16 r b c3:24 r b avg8 c1:32 r b c1:16 r b c1:10",
    "steps-4": _DROPPED,
    "steps-5": _DROPPED,
    "steps-6": _DROPPED,
    "era-v3": (
        "c5:32p1b r b d.1 c3:24p1b r b d.1 c3:16p1s2b r b d.1 c3:24p1s2b r b d.1 c3:16p1b r b "
        "c3:10b avg5"
    ),
    "eva4-1": _WIDE,
    "eva4-2": _WIDE,
    "eva4-3": _WIDE,
    "eva4-final": (
        "c3:10 r b c3:16 r b c1:10 b r mp2 c3:10 r b c1:32 b r c1:10 r b c3:10 r b c1:32 b r "
        "c1:10 r b c3:14 r b c3:16 r b avg4 c1:10 d.1"  # the Dropout stands last: never called
    ),
    "steps-6-constant": _DROPPED,
    "eva4-final-dropout": (  # one Dropout module, called five times more than it is listed
        "c3:10 r b d.1 c3:16 r b c1:10 b r mp2 c3:10 r b c1:32 b r c1:10 r b c3:10 r b c1:32 b r "
        "c1:10 r b c3:14 r b c3:16 r b avg4 c1:10"
    ),
    "attempt-3": (
        "c3:10 r b d.02 c3:16 r b d.02 c1:10 mp2 c3:10 r b d.02 c3:10 r b d.02 c3:13 r b d.02 "
        "c3:16 r b d.02 avg4 c1:10"
    ),
}


def describe(layer: nn.Module) -> str:
    match layer:
        case nn.Conv2d():
            padding, stride = layer.padding[0], layer.stride[0]
            text = f"c{layer.kernel_size[0]}:{layer.out_channels}"
            text += f"p{padding}" if padding else ""
            text += f"s{stride}" if stride > 1 else ""
            text += "b" if layer.bias is not None else ""
        case nn.Linear():
            text = f"fc:{layer.out_features}"
        case nn.MaxPool2d() | nn.AvgPool2d():
            text = f"{'mp' if isinstance(layer, nn.MaxPool2d) else 'avg'}{layer.kernel_size}"
        case nn.Dropout2d() | nn.Dropout():
            kind = "e" if isinstance(layer, nn.Dropout2d) else "d"
            text = kind + str(layer.p).removeprefix("0")
        case _:
            text = {nn.ReLU: "r", nn.BatchNorm2d: "b", nn.Flatten: ""}[type(layer)]
    return text


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    leaves = [m for m in EXPERIMENTS[name].build().modules() if not list(m.children())]
    assert " ".join(filter(None, map(describe, leaves))) == LAYERS[name]


_CROP = CropResize(size=22, probability=0.1)
_STRONG = (
    Rotation(7),
    Affine(degrees=7, shear=10, translate=0.1, scale=(0.8, 1.2)),
    Jitter(brightness=0.4, contrast=0.4),
)
_MILD = (Rotation(7), Jitter(brightness=0.1, contrast=0.1))


def sgd(rate: float, momentum: float, batch: int, epochs: int, *more: object) -> Recipe:
    """A recipe of stochastic gradient descent; `more` is schedule and augmentation."""
    schedule, augmentation = more or (Constant(), ())
    return Recipe(
        optimizer="sgd",
        learning_rate=rate,
        momentum=momentum,
        batch_size=batch,
        epochs=epochs,
        schedule=schedule,  # type: ignore[arg-type] - from a tuple of mixed types
        augmentation=augmentation,  # type: ignore[arg-type] - likewise
    )


RECIPES = {
    "blocks-1": sgd(0.01, 0.9, 64, 20, Step(15, 0.1), (_CROP, Rotation(7))),
    "blocks-2": sgd(0.01, 0.9, 64, 20, Step(15, 0.1), (_CROP, Rotation(7))),
    "blocks-3": sgd(0.02, 0.8, 64, 14, Step(15, 0.1), (_CROP, Rotation(5))),
    "steps-1": sgd(0.01, 0.9, 128, 15),
    "steps-2": sgd(0.01, 0.9, 128, 15),
    "steps-3": sgd(0.01, 0.9, 128, 15),
    "steps-4": sgd(0.01, 0.9, 128, 15),
    "steps-5": sgd(0.01, 0.95, 128, 15, Constant(), _STRONG),
    "steps-6": sgd(0.01, 0.9, 64, 15, Power(0.65), _STRONG),
    "era-v3": sgd(0.01, 0.9, 128, 20),
    "eva4-1": sgd(0.01, 0.9, 64, 15, Constant(), _MILD),
    "eva4-2": sgd(0.05, 0.9, 128, 15, Step(10, 0.01), _MILD),
    "eva4-3": sgd(0.01, 0.9, 128, 15, Step(10, 0.1), _MILD),
    "eva4-final": sgd(0.01, 0.9, 128, 15, Step(6, 0.5), (Rotation(9), _MILD[1])),
    "steps-6-constant": sgd(0.01, 0.9, 64, 15, Constant(), _STRONG),
    "eva4-final-dropout": sgd(0.01, 0.9, 128, 15, Step(6, 0.5), (Rotation(9), _MILD[1])),
    # Unpublished but for optimiser and schedule: chosen here.
    "attempt-3": Recipe("adam", 0.003, 128, 14, schedule=Plateau(0.3, 0, 0.1)),
}
# percent and epoch as claimed; which limits of its own assignment, and of the card, the number
# of epochs keeps
CLAIMS = {
    "blocks-1": (99.4, 13, False, False),
    "blocks-2": (99.5, 16, False, False),
    "blocks-3": (99.47, 14, True, True),
    "steps-1": (99.01, 14, True, True),
    "steps-2": (98.72, 14, True, True),
    "steps-3": (99.28, 14, True, True),
    "steps-4": (99.22, 13, True, True),
    "steps-5": (99.34, 13, True, True),
    "steps-6": (99.48, 11, True, True),
    "era-v3": (99.49, 20, False, False),
    "eva4-1": (99.41, 13, True, True),
    "eva4-2": (99.42, 12, True, True),
    "eva4-3": (99.44, 12, True, True),
    "eva4-final": (99.41, 12, True, True),
    "attempt-3": (99.42, None, True, True),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str) -> None:
    assert EXPERIMENTS[name].recipe == RECIPES[name]


@pytest.mark.parametrize("name", CLAIMS)
def test_claim_and_epochs(name: str) -> None:
    experiment = EXPERIMENTS[name]
    percent, epoch, own, card = CLAIMS[name]
    assert experiment.claim is not None
    assert (experiment.claim.percent, experiment.claim.epoch) == (percent, epoch)
    limits = [experiment.assignment.epochs, EXPERIMENTS["frontier-8k"].assignment.epochs]
    assert [limit.holds(experiment.recipe.epochs) for limit in limits if limit] == [own, card]


def test_every_published_experiment_is_here() -> None:
    published = [name for name, experiment in EXPERIMENTS.items() if experiment.claim]
    ablations = {name: e.ablates for name, e in EXPERIMENTS.items() if e.ablates}
    assert published == [name for name in CLAIMS if name in LAYERS]
    assert len(published) == 15
    assert ablations == {"steps-6-constant": "steps-6", "eva4-final-dropout": "eva4-final"}
    assert set(LAYERS) == set(RECIPES) == {*published, *ablations}


def test_ablations_change_one_point() -> None:
    for name, of in {"steps-6-constant": "steps-6", "eva4-final-dropout": "eva4-final"}.items():
        changed, base = EXPERIMENTS[name], EXPERIMENTS[of]
        one, other = changed.recipe.to_dict(), base.recipe.to_dict()
        differing = [key for key in one if one[key] != other[key]]
        assert differing == (["schedule"] if changed.build is base.build else [])
        assert changed.assignment is base.assignment and changed.system is base.system
