"""ERA V1 session 7 as a ladder of six steps (document 001): steps-1 to steps-6."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from mnist_models.assignment import ERA_V1_STEPS
from mnist_models.blocks import Dropout, convolution
from mnist_models.models.registry import Claim, Experiment, System, register
from mnist_models.recipe import Affine, Jitter, Power, Recipe, Rotation

SYSTEM = System(
    name="era-v1-steps",
    title="ERA V1 session 7, in-depth coding practice",
    document="001",
    findings=(
        "It describes a falling learning rate, but the published loop never steps the schedule.",
        "The accuracies of steps 1 to 5 differ from those in its own notebooks.",
        "Steps 1 to 5 ran with batches of 128, step 6 with 64, besides its other changes.",
    ),
)


def structure() -> nn.Module:
    """The basic structure, without normalisation: ``(B, 1, 28, 28) -> (B, 10)``."""

    def conv(inputs: int, outputs: int, kernel: int = 3, padding: int = 0) -> nn.Sequential:
        return convolution(inputs, outputs, kernel, padding=padding, order="conv-act")

    return nn.Sequential(
        conv(1, 16),  # (B, 16, 26, 26)
        conv(16, 32),  # (B, 32, 24, 24)
        convolution(32, 10, 1, order="conv"),
        nn.MaxPool2d(2),  # (B, 10, 12, 12)
        conv(10, 16),  # (B, 16, 10, 10)
        conv(16, 16),  # (B, 16, 8, 8)
        conv(16, 16),  # (B, 16, 6, 6)
        conv(16, 16, padding=1),
        nn.AvgPool2d(6),  # (B, 16, 1, 1)
        convolution(16, 10, 1, order="conv"),
        nn.Flatten(),
    )


def small(*, norm: bool = True, dropout: float = 0.0) -> nn.Module:
    """The small network of steps 2 to 6: ``(B, 1, 28, 28) -> (B, 10)``.

    Args:
        norm: BatchNorm after every ReLU.
        dropout: probability of the Dropout after every BatchNorm; 0 leaves the layer out.
    """

    def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
        return convolution(
            inputs,
            outputs,
            kernel,
            order="conv-act-norm" if norm else "conv-act",
            dropout=Dropout(dropout) if dropout else None,
        )

    return nn.Sequential(
        conv(1, 8),  # (B, 8, 26, 26)
        conv(8, 16),  # (B, 16, 24, 24)
        nn.MaxPool2d(2),  # (B, 16, 12, 12)
        convolution(16, 8, 1, order="conv"),
        conv(8, 16),  # (B, 16, 10, 10)
        conv(16, 24),  # (B, 24, 8, 8)
        nn.AvgPool2d(8),  # (B, 24, 1, 1)
        conv(24, 32, 1),
        conv(32, 16, 1),
        convolution(16, 10, 1, order="conv"),
        nn.Flatten(),
    )


def unnormalised() -> nn.Module:
    """`small` without BatchNorm: ``(B, 1, 28, 28) -> (B, 10)``."""
    return small(norm=False)


def regularised() -> nn.Module:
    """`small` with Dropout(0.05): ``(B, 1, 28, 28) -> (B, 10)``."""
    return small(dropout=0.05)


_PLAIN = Recipe(optimizer="sgd", learning_rate=0.01, momentum=0.9, batch_size=128, epochs=15)
_AUGMENTATION = (
    Rotation(7),
    Affine(degrees=7, shear=10, translate=0.1, scale=(0.8, 1.2)),
    Jitter(brightness=0.4, contrast=0.4),
)


def _claim(percent: float, epoch: int, notebook: str = "", *more: str) -> Claim:
    best = f"It is the best of 15 epochs (epoch {epoch}), chosen on the test set, of one run."
    other = f"Its own notebook gives {notebook} instead." if notebook else ""
    return Claim(percent, epoch=epoch, problems=tuple(filter(None, (best, other, *more))))


_STEPS = (
    (
        "steps-1",
        structure,
        _PLAIN,
        _claim(99.01, 14, "98.80"),
        "A basic structure: one pooling at a receptive field of 5, no normalisation.",
        "Training and test accuracy rise together to about 99 %: the structure is sound, and "
        "larger than it need be.",
    ),
    (
        "steps-2",
        unnormalised,
        _PLAIN,
        _claim(98.72, 14, "98.55"),
        "Fewer parameters: thinner before the pooling, wider after the averaging.",
        "The document finds that it learns slowly and underfits a little, and expects "
        "normalisation to speed it up. The receptive field shrank to 14 before the averaging, "
        "which nobody noticed.",
    ),
    (
        "steps-3",
        small,
        _PLAIN,
        _claim(99.28, 14, "99.19"),
        "BatchNorm after every ReLU, to converge faster.",
        "224 more parameters: the document reports the largest single gain of its ladder.",
    ),
    (
        "steps-4",
        regularised,
        _PLAIN,
        _claim(99.22, 13, "99.24"),
        "Dropout after every BatchNorm, against overfitting.",
        "The document sees the training accuracy fall and the test accuracy stay: a network of "
        "this size hardly overfits.",
    ),
    (
        "steps-5",
        regularised,
        replace(_PLAIN, momentum=0.95, augmentation=_AUGMENTATION),
        _claim(99.34, 13, "99.27"),
        "Rotation, affine and colour augmentation, chosen from the digits it got wrong.",
        "The training images are now harder than the test images; the document reports a gain. "
        "Momentum rose to 0.95 in the same step, so that two things changed at once.",
    ),
    (
        "steps-6",
        regularised,
        replace(_PLAIN, batch_size=64, augmentation=_AUGMENTATION, schedule=Power(0.65)),
        _claim(
            99.48,
            11,
            "",
            "It describes a LambdaLR schedule, but the published loop never steps it.",
            "Steps 1 to 5 ran with batch 128, this one with 64, and the momentum fell back to 0.9: "
            "three things changed at once.",
        ),
        "A falling learning rate, for 99.4 % in each of the last epochs.",
        "With the schedule really stepped, the learning rate falls by a third every epoch and "
        "the last epochs hardly move.",
    ),
)

_BREAKS_CARD = {  # the fields of 14 pixels and the missing layers are the documents' own
    "steps-1": {"parameters", "batch-norm", "dropout"},
    "steps-2": {"batch-norm", "dropout", "receptive-field"},
    "steps-3": {"dropout", "receptive-field"},
    "steps-4": {"receptive-field"},
    "steps-5": {"receptive-field"},
    "steps-6": {"receptive-field"},
}

for _name, _build, _recipe, _its_claim, _target, _analysis in _STEPS:
    register(
        Experiment(
            name=_name,
            build=_build,
            recipe=_recipe,
            assignment=ERA_V1_STEPS,
            target=_target,
            analysis=_analysis,
            system=SYSTEM,
            claim=_its_claim,
            breaks=frozenset({"parameters"} if _name == "steps-1" else ()),
            breaks_card=frozenset(_BREAKS_CARD[_name]),
        )
    )

register(
    Experiment(
        name="steps-6-constant",
        build=regularised,
        recipe=replace(_PLAIN, batch_size=64, augmentation=_AUGMENTATION),
        assignment=ERA_V1_STEPS,
        target="What steps-6 is when its schedule is never stepped, as its published loop did.",
        analysis=(
            "The same network, data and seeds as steps-6 at a constant learning rate: what its "
            "document really ran."
        ),
        system=SYSTEM,
        ablates="steps-6",
        breaks_card=frozenset(_BREAKS_CARD["steps-6"]),
    )
)
