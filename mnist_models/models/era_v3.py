"""ERA V3 session 6 (document 002): era-v3."""

from __future__ import annotations

from torch import nn

from mnist_models.assignment import ERA_V3
from mnist_models.blocks import Dropout, convolution
from mnist_models.models.registry import Claim, Experiment, System, register
from mnist_models.recipe import Recipe

SYSTEM = System(
    name="era-v3",
    title="ERA V3 session 6",
    document="002",
    findings=(
        "Its five badges are one and the same workflow badge with a decorative query string: "
        "they cannot differ.",
        "Its accuracy was scraped from printed text.",
        "It lists max-pooling among its techniques and has none.",
    ),
)


def network() -> nn.Module:
    """Strides instead of max-pooling, averaged logits: ``(B, 1, 28, 28) -> (B, 10)``."""

    def conv(
        inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dropout: float = 0.1
    ) -> nn.Sequential:
        return convolution(
            inputs,
            outputs,
            kernel,
            padding=1,
            stride=stride,
            bias=True,
            dropout=Dropout(dropout) if dropout else None,
        )

    return nn.Sequential(
        conv(1, 32, kernel=5),  # (B, 32, 26, 26)
        conv(32, 24),
        conv(24, 16, stride=2),  # (B, 16, 13, 13)
        conv(16, 24, stride=2),  # (B, 24, 7, 7)
        conv(24, 16, dropout=0),
        convolution(16, 10, bias=True, order="conv"),  # (B, 10, 5, 5)
        nn.AvgPool2d(5),  # (B, 10, 1, 1)
        nn.Flatten(),
    )


register(
    Experiment(
        name="era-v3",
        build=network,
        recipe=Recipe(optimizer="sgd", learning_rate=0.01, momentum=0.9, batch_size=128, epochs=20),
        assignment=ERA_V3,
        target="99.4 % with fewer than 20,000 parameters, validated by GitHub Actions.",
        analysis=(
            "A 5x5 kernel and two strides reach far with few layers; the document needs no "
            "augmentation. Without a schedule the accuracy moves from epoch to epoch."
        ),
        system=SYSTEM,
        breaks_card=frozenset({"parameters"}),
        claim=Claim(
            99.49,
            epoch=20,
            problems=(
                "It is one run, whose best epoch on the test set happens to be its last.",
                "It ran 20 epochs against its own limit of fewer than 20.",
            ),
        ),
    )
)
