"""What a user would run instead: the published notebooks' pipelines, and PyTorch's own example.

Each keeps its own ways: one PIL image at a time through a DataLoader, torch's own layers, a loop
that asks the device for its numbers. Left out, in their favour: the drawing of the progress bars.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mnist_models.bench.turns import Told
from mnist_models.data import MEAN, STD, Dataset, Split
from mnist_models.models.era_v1_steps import regularised
from mnist_models.models.era_v3 import network

WORKERS = 2  # of the DataLoaders of steps-6, as its notebook runs them
LOG_INTERVAL = 10  # steps; the default of PyTorch's example
_TEST_BATCH = 1_000  # images; likewise
Look = Callable[[int, Tensor, Tensor, Tensor], None]  # step, log-probabilities, labels, loss


class _Images(TorchDataset[tuple[Tensor, int]]):
    """What ``torchvision.datasets.MNIST`` with a transform gives: one PIL image at a time."""

    def __init__(self, split: Split, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels = split.images.cpu(), split.labels.cpu()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index].numpy(), mode=None)
        return self.transform(image), int(self.labels[index])


class Pipeline:
    """Two DataLoaders, a network of torch's own layers, SGD, and a plain loop."""

    def __init__(
        self,
        network: nn.Module,
        train: DataLoader[tuple[Tensor, int]],
        test: DataLoader[tuple[Tensor, int]],
        device: torch.device,
        look: Look,
    ) -> None:
        self.model = plain_dropout(network).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.train, self.test = train, test
        self.device = device
        self.look = look

    def epoch(self, told: Told) -> None:
        """Train one epoch; `told` is called after every step."""
        self.model.train()
        for step, (images, labels) in enumerate(self.train):
            inputs, targets = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            answers = F.log_softmax(self.model(inputs), dim=1)
            loss = F.nll_loss(answers, targets)
            loss.backward()
            self.optimizer.step()
            self.look(step, answers, targets, loss)
            told()

    def score(self) -> int:
        """Score the images held out through their DataLoader, asking for loss and answers."""
        self.model.eval()
        loss, correct = 0.0, 0
        with torch.no_grad():
            for images, labels in self.test:
                inputs, targets = images.to(self.device), labels.to(self.device)
                answers = F.log_softmax(self.model(inputs), dim=1)
                loss += F.nll_loss(answers, targets, reduction="sum").item()
                correct += int(answers.argmax(dim=1).eq(targets).sum().item())
        return correct


def steps_6(data: Dataset, device: torch.device) -> Pipeline:
    """steps-6 as its document gives it: its progress bar shows loss and accuracy of every step."""
    from torchvision import transforms  # noqa: PLC0415 - takes seconds; only the pipelines need it

    augmentation = [
        transforms.RandomRotation((-7.0, 7.0)),
        transforms.RandomAffine(degrees=7, shear=10, translate=(0.1, 0.1), scale=(0.8, 1.2)),
        transforms.ColorJitter(brightness=0.4, contrast=0.4),
    ]
    options: dict[str, Any] = {"batch_size": 64, "shuffle": True, "num_workers": WORKERS}
    train = DataLoader(_Images(data.train, _tensor(*augmentation)), **options)
    test = DataLoader(_Images(data.held_out, _tensor()), **options)

    def look(step: int, answers: Tensor, targets: Tensor, loss: Tensor) -> None:
        answers.argmax(dim=1).eq(targets).sum().item()
        loss.item()

    return Pipeline(regularised(), train, test, device, look)


def era_v3(data: Dataset, device: torch.device) -> Pipeline:
    """era-v3 as its document gives it: 469 batches an epoch, the loss of every step shown.

    It publishes no code; its log lines are those of the course's tutorial, whose defaults stand
    in for what it leaves out: SGD with rate 0.01 and momentum 0.9, no augmentation, and a
    DataLoader with one worker and pinned memory on a GPU, with neither on a CPU.
    """
    options: dict[str, Any] = {"batch_size": 128, "shuffle": True}
    if device.type == "cuda":
        options |= {"num_workers": 1, "pin_memory": True}
    train = DataLoader(_Images(data.train, _tensor()), **options)
    test = DataLoader(_Images(data.held_out, _tensor()), **options)
    return Pipeline(network(), train, test, device, lambda *seen: seen[-1].item() and None)


def example(data: Dataset, device: torch.device) -> Pipeline:
    """The network of steps-6 in a loop in the style of PyTorch's own MNIST example.

    Its loaders (one persistent worker and pinned memory on a GPU, none on a CPU), its batch of 64
    and 1,000 test images, a look at the loss every tenth step; no augmentation, which it has not.
    The optimiser is that of steps-6.
    """
    options: dict[str, Any] = {"shuffle": True}
    if device.type == "cuda":
        options |= {"num_workers": 1, "persistent_workers": True, "pin_memory": True}
    train = DataLoader(_Images(data.train, _tensor()), batch_size=64, **options)
    test = DataLoader(_Images(data.held_out, _tensor()), batch_size=_TEST_BATCH, **options)

    def look(step: int, answers: Tensor, targets: Tensor, loss: Tensor) -> None:
        if step % LOG_INTERVAL == 0:
            loss.item()

    return Pipeline(regularised(), train, test, device, look)


def plain_dropout(model: nn.Module) -> nn.Module:
    """The same network with ``torch.nn.Dropout`` itself, as the notebooks have it."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Dropout):
                setattr(parent, name, nn.Dropout(child.p))
    return model


def _tensor(*augmentation: object) -> Callable[[Any], Tensor]:
    """PIL image -> float32 ``(1, 28, 28)``, augmented and normalised."""
    from torchvision import transforms  # noqa: PLC0415 - takes seconds; only the pipelines need it

    made: Callable[[Any], Tensor] = transforms.Compose(
        [*augmentation, transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]
    )
    return made
