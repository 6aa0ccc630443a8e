"""The models of this project's own, one below each limit: frontier-8k, -4k, -2k, -1k."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from mnist_models.assignment import CARD, CARD_1K, CARD_2K, CARD_4K, Assignment
from mnist_models.models.funnel import funnel
from mnist_models.models.registry import Experiment, System, register
from mnist_models.recipe import Distortion, OneCycle, Recipe

SYSTEM = System(name="frontier", title="This project's own models")

_DISTORTION = Distortion(
    degrees=8, translate=2 / 28, scale=(0.92, 1.08), shear=5, displacement=0.5, smoothness=4
)

# What was chosen where, and on which images, is told in docs/search.md.
RECIPE = Recipe(
    optimizer="muon",
    learning_rate=0.02,
    momentum=0.95,
    weight_decay=0.01,
    batch_size=64,
    epochs=15,
    schedule=OneCycle(warm_up=0.2),
    augmentation=(_DISTORTION,),
    plain_epochs=3,
    average=0.998,
)


def _register(
    name: str,
    assignment: Assignment,
    plan: str,
    target: str,
    analysis: str,
    *,
    recipe: Recipe = RECIPE,
    atrous: bool = False,
    dilated: bool = False,
) -> None:
    register(
        Experiment(
            name=name,
            build=partial(funnel, plan, affine=False, dropout=0.01, atrous=atrous, dilated=dilated),
            recipe=recipe,
            assignment=assignment,
            system=SYSTEM,
            target=target,
            analysis=analysis,
        )
    )


_register(
    "frontier-8k",
    CARD,
    "10u/52us-52us-52us-52us=",
    "99.4 % in each of the last three epochs, on every seed, below 8,000 parameters.",
    (
        "One full convolution, one pooling, then four depthwise separable convolutions without "
        "padding, down to 5x5 pixels: three times the channels that full ones could have. The last "
        "two share their weights, which leaves more channels to all. No BatchNorm has a scale or a "
        "shift, each convolution a bias instead: half the parameters. In training an image takes "
        "one of the four grids on which the pooling may lie, in evaluation all: the pooling at the "
        "end averages over them. The true class has to lead by a margin in training, so that an "
        "image goes on to teach when it is right by little. "
        "A one-cycle schedule that ends at zero and an exponential average of the weights make "
        "the last epochs agree; the augmentation, a strong affine and elastic distortion in a "
        "single sampling, ends three epochs early, so that the network finishes on the images it "
        "will be scored on."
    ),
    recipe=replace(
        RECIPE,
        learning_rate=0.01,
        margin=4.0,
        augmentation=(
            replace(_DISTORTION, degrees=10, scale=(0.9, 1.1), shear=8, displacement=0.8),
        ),
    ),
    atrous=True,
)
_register(
    "frontier-4k",
    CARD_4K,
    "10u/34us-34us-34us-34us=",
    "99.45 % in the mean over seeds, below 4,000 parameters.",
    ("As frontier-8k, narrower, at twice its learning rate and on images that are distorted less."),
    recipe=replace(RECIPE, margin=4.0),
    atrous=True,
)
_register(
    "frontier-2k",
    CARD_2K,
    "8u/22us-22us-22us-22us=",
    "99.2 % in the mean over seeds, below 2,000 parameters.",
    (
        "As frontier-8k, narrower, at twice its learning rate, without a margin and on images that "
        "are distorted less."
    ),
    atrous=True,
)
_register(
    "frontier-1k",
    CARD_1K,
    "7u/10us-10us-11us-12us",
    "98.9 % in the mean over seeds, below 1,000 parameters.",
    (
        "As frontier-8k with a quarter of its channels, no weights shared, a larger learning rate "
        "and no margin. It has all four grids of the pooling in training too, and no elastic "
        "field. The network learns its training images no better than it answers new ones: what "
        "limits it is its size, not what it has seen."
    ),
    recipe=replace(
        RECIPE,
        learning_rate=0.04,
        augmentation=(replace(_DISTORTION, displacement=0.0),),
        plain_epochs=2,
    ),
    dilated=True,
)
