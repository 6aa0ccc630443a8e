"""A network's answers on a set of images, counted."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.data import Split, normalise
from mnist_models.gpu_convolution import ChannelByChannel

CLASSES = 10
# Images: the maps of a network this small then stay in a CPU's cache, and the C library keeps their
# memory from batch to batch. Of 100 it gives it back each time, which can double the time.
_BATCH = 25
_BATCH_GPU = 2_500  # enough to hide the cost of the calls
_FEW = 4  # images at a time, by which the checks count what a network executes
_SAMPLE = 40  # images that are answered so as well
_ROUNDING = 1e-2  # standard deviations of the logits; another size of batch rounds by far less


@dataclass(frozen=True)
class Score:
    """What a network answered.

    Attributes:
        loss: mean cross-entropy, nats.
        correct: images classified correctly.
        total: images.
        confusion: ``confusion[truth][answer]``, images.
        misclassified: indices of the images classified wrongly, ascending.
    """

    loss: float
    correct: int
    total: int
    confusion: list[list[int]]
    misclassified: list[int]


class BatchError(ValueError):
    """The answers to an image depend on how many images are given at once."""


def logits_of(model: nn.Module, images: Tensor, size: int | None = None) -> Tensor:
    """Evaluate in float32, batch by batch: uint8 ``(N, 28, 28) -> (N, 10)`` float32 logits.

    TF32, cuDNN's default with 10 bits of mantissa, is switched off for it. The model's mode is
    put back as it was. `size` is that of a batch, by default what is fast.
    """
    if size is None:
        size = _BATCH if images.device.type == "cpu" else _BATCH_GPU
    was_training = model.training
    model.eval()
    try:
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
            nullcontext() if images.device.type == "cpu" else ChannelByChannel(),
        ):
            return torch.cat([model(normalise(batch)).float() for batch in images.split(size)])
    finally:
        model.train(was_training)


def score(model: nn.Module, split: Split) -> Score:
    """Score a model on a split that lies on the model's device."""
    return _grade(logits_of(model, split.images), split.labels)


def score_honestly(model: nn.Module, split: Split) -> Score:
    """As `score`, of a model that is not trusted.

    Raises:
        BatchError: in batches as the checks give them it answers otherwise.
    """
    sample = slice(None, None, max(1, len(split) // _SAMPLE))
    few = logits_of(model, split.images[sample], _FEW)
    logits = logits_of(model, split.images)
    apart = (few - logits[sample]).abs().max() / logits.std()
    if apart > _ROUNDING:
        raise BatchError(
            f"the logits of an image differ by {apart:.2g} of their standard deviations where "
            f"{_FEW} images are given at once; expected no difference"
        )
    return _grade(logits, split.labels)


def _grade(logits: Tensor, labels: Tensor) -> Score:
    answers = logits.argmax(1)
    confusion = torch.bincount(labels * CLASSES + answers, minlength=CLASSES * CLASSES)
    wrong = (answers != labels).nonzero().flatten().tolist()
    return Score(
        loss=F.cross_entropy(logits, labels).item(),
        correct=len(labels) - len(wrong),
        total=len(labels),
        confusion=confusion.view(CLASSES, CLASSES).tolist(),
        misclassified=wrong,
    )
