from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mnist_models.data import Split
from mnist_models.score import BatchError, logits_of, score, score_honestly


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


class Sized(nn.Module):
    """Answers zero in batches of the sizes that are not its own, or of its first calls."""

    def __init__(self, own: set[int], late: int = 0) -> None:
        super().__init__()
        self.own, self.late, self.calls = own, late, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        answers: Tensor = FirstPixel()(images)
        return answers * (len(images) in self.own and self.calls > self.late)


def test_answers_that_depend_on_the_size_of_the_batch_are_no_answers() -> None:
    digits = [index % 10 for index in range(400)]
    split = spelled(digits, digits)
    assert score_honestly(Sized({4, 25}), split) == score(FirstPixel(), split)
    for cheat in (Sized({25}), Sized({4, 25}, late=15)):
        with pytest.raises(BatchError, match=r"differ by .* where 4 images are given at once"):
            score_honestly(cheat, split)
    assert score_honestly(FirstPixel(), spelled([1], [1])).correct == 1
