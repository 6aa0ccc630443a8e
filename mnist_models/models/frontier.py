"""The models of this project's own: frontier-8k."""

from __future__ import annotations

from torch import nn

from mnist_models.assignment import CARD
from mnist_models.blocks import Dropout, GlobalAveragePool, convolution
from mnist_models.models.registry import Experiment, System, register
from mnist_models.recipe import Affine, OneCycle, Recipe


def thin_then_wide() -> nn.Module:
    """Six 3x3 convolutions around two max-pools: ``(B, 1, 28, 28) -> (B, 10)``.

    Thin where the map is large, wider where it is small; padded but for the last of the first
    and of the last group.
    """

    def conv(inputs: int, outputs: int, padding: int = 1, dropout: float = 0.0) -> nn.Sequential:
        return convolution(
            inputs,
            outputs,
            padding=padding,
            activation=nn.SiLU,
            dropout=Dropout(dropout) if dropout else None,
        )

    return nn.Sequential(
        conv(1, 8),  # (B, 8, 28, 28)
        conv(8, 12, padding=0),  # (B, 12, 26, 26)
        nn.MaxPool2d(2),  # (B, 12, 13, 13)
        conv(12, 12),
        conv(12, 14),
        nn.MaxPool2d(2),  # (B, 14, 6, 6)
        conv(14, 14),
        conv(14, 16, padding=0, dropout=0.02),  # (B, 16, 4, 4)
        GlobalAveragePool(),  # (B, 16)
        nn.Linear(16, 10),
    )


SYSTEM = System(name="frontier", title="This project's own models")

register(
    Experiment(
        name="frontier-8k",
        build=thin_then_wide,
        recipe=Recipe(
            optimizer="sgd",
            learning_rate=0.2,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
            batch_size=64,
            epochs=15,
            schedule=OneCycle(warm_up=0.2),
            augmentation=(
                Affine(
                    degrees=8,
                    translate=2 / 28,
                    scale=(0.92, 1.08),
                    shear=5,
                    interpolation="bilinear",
                ),
            ),
            plain_epochs=2,
            average=0.998,
        ),
        assignment=CARD,
        system=SYSTEM,
        target="99.4 % in each of the last three epochs, on every seed, below 8,000 parameters.",
        analysis=(
            "Thin at full resolution, two poolings, a linear head on the averaged map. A "
            "one-cycle schedule that ends at zero and an exponential average of the weights make "
            "the last epochs agree; the augmentation ends two epochs early, so that the network "
            "finishes on the images it will be scored on."
        ),
    )
)
