"""ERA V1 session 7 in three blocks (document 000): blocks-1, blocks-2, blocks-3."""

from __future__ import annotations

from functools import partial

from torch import nn

from mnist_models.assignment import ERA_V1_BLOCKS
from mnist_models.blocks import Dropout, convolution
from mnist_models.models.registry import Claim, Experiment, System, register
from mnist_models.recipe import CropResize, Recipe, Rotation, Step

SYSTEM = System(
    name="era-v1-blocks",
    title="ERA V1 session 7, three blocks",
    document="000",
    findings=(
        "Its test loader was built on the training data: no test accuracy was ever measured.",
        "It writes receptive fields of up to 28 pixels before its pooling; they are 24, 22 and 22.",
    ),
)
_ONE_RUN = "It is the best epoch of one run."
_TRAINING_SET = (
    "Its accuracy was measured on the training images (its logs read 59681/60000): its true "
    "test accuracy was never measured."
)


def bulky() -> nn.Module:
    """Every convolution with bias, then average pooling and a fully connected layer.

    ``(B, 1, 28, 28) -> (B, 10)``.
    """
    conv = partial(convolution, bias=True)
    return nn.Sequential(
        conv(1, 16, dropout=Dropout(0.05)),  # (B, 16, 26, 26)
        conv(16, 32, dropout=Dropout(0.05)),  # (B, 32, 24, 24)
        conv(32, 8, 1, order="conv"),
        nn.MaxPool2d(2),  # (B, 8, 12, 12)
        conv(8, 16, dropout=Dropout(0.05)),  # (B, 16, 10, 10)
        conv(16, 32, dropout=Dropout(0.05)),  # (B, 32, 8, 8)
        conv(32, 16, 1, order="conv"),
        nn.MaxPool2d(2),  # (B, 16, 4, 4)
        conv(16, 32, order="conv-act"),  # (B, 32, 2, 2)
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def squeezed() -> nn.Module:
    """No bias, 1x1 convolutions, global average pooling: ``(B, 1, 28, 28) -> (B, 10)``."""

    def conv(inputs: int, outputs: int, kernel: int = 3, padding: int = 0) -> nn.Sequential:
        return convolution(inputs, outputs, kernel, padding=padding, dropout=nn.Dropout2d(0.01))

    return nn.Sequential(
        conv(1, 32),  # (B, 32, 26, 26)
        conv(32, 8, 1),
        conv(8, 10),  # (B, 10, 24, 24)
        nn.MaxPool2d(2),  # (B, 10, 12, 12)
        conv(10, 16, padding=1),
        conv(16, 10, 1),
        conv(10, 10),  # (B, 10, 10, 10)
        conv(10, 16),  # (B, 16, 8, 8)
        conv(16, 16),  # (B, 16, 6, 6)
        nn.AvgPool2d(6),  # (B, 16, 1, 1)
        convolution(16, 10, 1, order="conv"),
        nn.Flatten(),
    )


def _recipe(learning_rate: float, momentum: float, epochs: int, degrees: float) -> Recipe:
    return Recipe(
        optimizer="sgd",
        learning_rate=learning_rate,
        momentum=momentum,
        batch_size=64,
        epochs=epochs,
        schedule=Step(every=15, gamma=0.1),
        augmentation=(CropResize(size=22, probability=0.1), Rotation(degrees)),
    )


_TOO_LONG = "It ran 20 epochs against its own limit of fewer than 20."

register(
    Experiment(
        name="blocks-1",
        build=bulky,
        recipe=_recipe(0.01, 0.9, epochs=20, degrees=7),
        assignment=ERA_V1_BLOCKS,
        target="Reach 99.4 % with a bulky network, before making it small.",
        analysis=(
            "Stable, but twice the allowed size: the 1x1 convolutions squeeze, and neither "
            "activation nor normalisation follows them. The next block cuts the parameters."
        ),
        system=SYSTEM,
        claim=Claim(
            99.4,
            epoch=13,
            measured_on="training",
            problems=(
                _TRAINING_SET,
                _ONE_RUN,
                "It says that it uses no activation function; it uses ReLU.",
                _TOO_LONG,
            ),
        ),
        breaks=frozenset({"parameters"}),
        breaks_card=frozenset({"parameters"}),
    )
)
register(
    Experiment(
        name="blocks-2",
        build=squeezed,
        recipe=_recipe(0.01, 0.9, epochs=20, degrees=7),
        assignment=ERA_V1_BLOCKS,
        target="Fewer than 8,000 parameters, with 1x1 kernels and an activation everywhere.",
        analysis=(
            "Wide first, squeezed at once to 8 channels by a 1x1 kernel: most of the size goes, "
            "little of the accuracy. A larger learning rate may save epochs."
        ),
        system=SYSTEM,
        claim=Claim(
            99.5,
            epoch=16,
            measured_on="training",
            problems=(
                _TRAINING_SET,
                _ONE_RUN,
                "It gives a receptive field of 28 before its pooling; it is 22.",
                _TOO_LONG,
            ),
        ),
    )
)
register(
    Experiment(
        name="blocks-3",
        build=squeezed,
        recipe=_recipe(0.02, 0.8, epochs=14, degrees=5),
        assignment=ERA_V1_BLOCKS,
        target="The same accuracy within 14 epochs.",
        analysis=(
            "The network of blocks-2 under a doubled learning rate, less momentum and a smaller "
            "rotation: fewer epochs; the document finds it less steady."
        ),
        system=SYSTEM,
        claim=Claim(
            99.47,
            epoch=14,
            measured_on="training",
            problems=(
                _TRAINING_SET,
                _ONE_RUN,
                "It gives a receptive field of 28 before its pooling; it is 22.",
                "Its summary ends in a second, unrelated total of 593,200 parameters.",
            ),
        ),
    )
)
