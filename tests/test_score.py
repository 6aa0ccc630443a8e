from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mnist_models.data import Split
from mnist_models.score import logits_of, score


class FirstPixel(nn.Module):
    """Answers the digit that the first pixel spells, 25 grey levels each."""

    def forward(self, images: Tensor) -> Tensor:
        grey = (images[:, 0, 0, 0] * 0.3081 + 0.1307) * 255
        digit = (grey / 25).round().long()
        return nn.functional.one_hot(digit, 10).float() * 20


def spelled(digits: list[int], labels: list[int]) -> Split:
    images = torch.zeros(len(digits), 28, 28, dtype=torch.uint8)
    images[:, 0, 0] = torch.tensor(digits, dtype=torch.uint8) * 25
    return Split(images, torch.tensor(labels))


def test_answers_are_counted() -> None:
    digits = [index % 10 for index in range(1_203)]  # more than two batches, the last one short
    labels = list(digits)
    labels[3], labels[1_202] = 9, 0
    result = score(FirstPixel(), spelled(digits, labels))
    assert (result.correct, result.total) == (1_201, 1_203)
    assert result.misclassified == [3, 1_202]
    assert result.confusion[9][3] == 1
    assert result.confusion[0][2] == 1
    assert sum(map(sum, result.confusion)) == 1_203
    assert math.isclose(result.loss, 2 * 20 / 1_203, rel_tol=1e-3)


def test_mode_is_evaluation_and_is_put_back() -> None:
    class Asks(nn.Module):
        modes: list[bool]

        def __init__(self) -> None:
            super().__init__()
            self.modes = []

        def forward(self, images: Tensor) -> Tensor:
            self.modes.append(self.training)
            return torch.zeros(len(images), 10)

    model = Asks().train()
    score(model, spelled([1], [1]))
    assert model.modes == [False]
    assert model.training
    assert logits_of(model.eval(), spelled([1], [1]).images).dtype == torch.float32
    assert not model.training
