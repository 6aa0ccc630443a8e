"""Attempt-3 (document 004)."""

from __future__ import annotations

from torch import nn

from mnist_models.assignment import ATTEMPT
from mnist_models.blocks import Dropout, convolution
from mnist_models.models.registry import Claim, Experiment, System, register
from mnist_models.recipe import Plateau, Recipe

SYSTEM = System(
    name="attempt",
    title="Attempt-3",
    document="004",
    findings=(
        "It publishes neither its rates nor its logs: what is reproduced is its architecture.",
    ),
)


def network() -> nn.Module:
    """BatchNorm and Dropout in each block: ``(B, 1, 28, 28) -> (B, 10)``."""

    def conv(inputs: int, outputs: int) -> nn.Sequential:
        # The document does not give the rate; 0.02 was chosen here: small, as suits 6,842
        # parameters, and above what counts as a Dropout at all.
        return convolution(inputs, outputs, dropout=Dropout(0.02))

    return nn.Sequential(
        conv(1, 10),  # (B, 10, 26, 26)
        conv(10, 16),  # (B, 16, 24, 24)
        convolution(16, 10, 1, order="conv"),
        nn.MaxPool2d(2),  # (B, 10, 12, 12)
        conv(10, 10),  # (B, 10, 10, 10)
        conv(10, 10),  # (B, 10, 8, 8)
        conv(10, 13),  # (B, 13, 6, 6)
        conv(13, 16),  # (B, 16, 4, 4)
        nn.AvgPool2d(4),  # (B, 16, 1, 1)
        convolution(16, 10, 1, order="conv"),
        nn.Flatten(),
    )


register(
    Experiment(
        name="attempt-3",
        build=network,
        recipe=Recipe(
            optimizer="adam",
            # Neither rates nor batch size are published. The rate and the threshold were chosen on
            # the validation slice, one run each: 0.003 ended at 99.34 %, 0.01 at 99.26 %. With
            # torch's default threshold the training loss falls in every epoch by enough, and the
            # plateau never comes.
            learning_rate=0.003,
            batch_size=128,
            epochs=14,  # its assignment allows fewer than 15
            schedule=Plateau(factor=0.3, patience=0, threshold=0.1),
        ),
        assignment=ATTEMPT,
        target="99.4 % with consistency under 8,000 parameters, in fewer than 15 epochs.",
        analysis=(
            "Squeeze after the first two layers, then four thin ones with a receptive field of "
            "22: Adam on a plateau schedule. The document gives no rates; those here were "
            "chosen, and the plateau is watched on the training loss."
        ),
        system=SYSTEM,
        claim=Claim(
            99.42,
            problems=(
                "It publishes neither its learning rates nor its dropout rate nor its logs.",
                "It is the best epoch of one run.",
            ),
        ),
    )
)
