"""One training step: told to the device kernel by kernel, or recorded once as a CUDA graph.

A network of a few thousand parameters takes a GPU less time than the host needs to name its
kernels; a recorded step is named once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_models.optimisation import end_step
from mnist_models.randomness import Streams
from mnist_models.recipe import Recipe
from mnist_models.run import Run
from mnist_models.stack import side_by_side

Step = Callable[[Run, Tensor, Tensor], tuple[Tensor, Tensor]]

_WARM_UP = 3  # steps before a recording: libraries choose their kernels and take their memory
_AGREES = 1e-3  # of a value after two steps; rounding gives less, a wrong rate or share far more


def train_step(run: Run, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One update on a batch ``(B, 1, 28, 28)``, ``(B,)``: its mean loss, its correct answers.

    Both are scalars on the device, so that nothing waits for it. Of K networks side by side the
    batch is ``(B, K, 28, 28)``, ``(B, K)``, and both are ``(K,)``, each network's own.
    """
    loss, answered = _forward(run, inputs, labels)
    _descend(run, loss)
    end_step(run.schedule)
    if run.average is not None:
        run.average.update()
    return loss.detach(), answered


def _forward(run: Run, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if labels.dim() == 1:
        logits = run.model(inputs)
        answered = (logits.detach().argmax(1) == labels).sum()
        return objective(run.recipe, logits, labels).mean(), answered
    logits = side_by_side(run.model, inputs)  # (B, K, 10)
    losses = objective(run.recipe, logits.flatten(0, 1), labels.flatten()).view_as(labels).mean(0)
    return losses, (logits.detach().argmax(2) == labels).sum(0)


def objective(recipe: Recipe, logits: Tensor, labels: Tensor) -> Tensor:
    """What training makes small, of each image: ``(N, 10)`` and ``(N,) -> (N,)``, nats.

    Cross-entropy. A margin is taken from the true class alone: an answer that is right by less
    goes on to be learnt from (Wang and others, 2018, arXiv:1801.05599, there of cosines).
    """
    if recipe.margin:
        classes = torch.arange(logits.shape[1], device=logits.device)
        logits = logits - recipe.margin * (labels.unsqueeze(1) == classes)
    smoothing = recipe.label_smoothing
    return F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")


def _descend(run: Run, loss: Tensor) -> None:
    """Down the gradient of the loss; that of a sum of losses is each network's own."""
    run.optimizer.zero_grad(set_to_none=True)
    loss.sum().backward()
    run.optimizer.step()


class Recorded:
    """`train_step` for batches of one size, as a recording that can be played again.

    What changes from step to step, the batch, the learning rate and how much the average moves,
    lies in tensors that the recording reads; the schedule and the counts stay with the host.
    Without a CUDA device the same calls are made anew each time, which is how it is tested there.
    """

    def __init__(
        self, run: Run, inputs: Tensor, labels: Tensor, streams: Streams | None = None
    ) -> None:
        self._run = run
        self._streams = streams
        self._inputs, self._labels = inputs.clone(), labels.clone()
        self._rate = torch.tensor(run.learning_rate, device=inputs.device)
        self._share = torch.ones((), device=inputs.device)
        on_gpu = inputs.device.type == "cuda"
        self.play = self._record(inputs.device) if on_gpu else self.calls

    def __call__(self, run: Run, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As `train_step`, which takes the batches of any other size."""
        if run is not self._run or inputs.shape != self._inputs.shape:
            return train_step(run, inputs, labels)
        share = 0.0 if run.average is None else run.average.share
        loss, answered = self.move(inputs, labels, run.learning_rate, share)
        end_step(run.schedule)
        if run.average is not None:
            run.average.updates += 1
        return loss.clone(), answered.clone()  # the next step writes over them

    def move(
        self, inputs: Tensor, labels: Tensor, rate: float, share: float
    ) -> tuple[Tensor, Tensor]:
        """One step at this learning rate and share of the average; schedule and counts stay."""
        self._inputs.copy_(inputs)
        self._labels.copy_(labels)
        self._rate.fill_(rate)
        self._share.fill_(share)
        return self.play()

    def seed(self, seed: int) -> None:
        """What the next step draws: of networks side by side each other numbers."""
        if self._streams is None:
            torch.manual_seed(seed)
        else:
            self._streams.seed(range(seed, seed + self._labels.shape[1]), self._inputs.device)

    def calls(self) -> tuple[Tensor, Tensor]:
        """What is recorded: forward, backward, update, average; the loss, the correct answers."""
        run = self._run
        groups = run.optimizer.param_groups
        own = [dict(group) for group in groups]
        for group in groups:
            group["lr"] = self._rate
            if "capturable" in group:  # what Adam asks for before it is recorded
                group["capturable"] = self._inputs.is_cuda
        try:
            loss, answered = _forward(run, self._inputs, self._labels)
            _descend(run, loss)
        finally:
            for group, options in zip(groups, own, strict=True):
                group.update(options)
        if run.average is not None:
            run.average.move(self._share)
        return loss.detach(), answered

    def _record(self, device: torch.device) -> Callable[[], tuple[Tensor, Tensor]]:
        graph = torch.cuda.CUDAGraph()
        with _unmoved(self._run):
            aside = torch.cuda.Stream(device)
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self.calls()
            torch.cuda.current_stream(device).wait_stream(aside)
            self._run.optimizer.zero_grad(set_to_none=True)  # the recording takes its own memory
            for generator in [] if self._streams is None else self._streams.generators(device):
                graph.register_generator_state(generator)
            with torch.cuda.graph(graph):
                result = self.calls()

        def play() -> tuple[Tensor, Tensor]:
            graph.replay()
            return result

        return play


@contextmanager
def _unmoved(run: Run) -> Iterator[None]:
    """Put the values of network, average and optimiser back, into the same tensors.

    What the optimiser began to keep meanwhile is kept at zero, which is what it begins with.
    """
    before = {id(value): value.detach().clone() for value in _tensors(run)}
    try:
        yield
    finally:
        with torch.no_grad():
            for value in _tensors(run):
                if id(value) in before:
                    value.copy_(before[id(value)])
                else:
                    value.zero_()


def _tensors(run: Run) -> list[Tensor]:
    """All that a step moves: of the network, the average and the optimiser."""
    nets = [run.model] if run.average is None else [run.model, run.average.module]
    held = [value for net in nets for value in (*net.parameters(), *net.buffers())]
    kept = [value for each in run.optimizer.state.values() for value in each.values()]
    return held + [value for value in kept if isinstance(value, Tensor)]


def best_step(run: Run, inputs: Tensor, labels: Tensor, streams: Streams | None = None) -> Step:
    """The step to train `run` with on batches like this one: on a GPU a recording, if it can be.

    What two played steps give is compared with what two called ones give before a recording is
    trusted; all of it leaves the run as it was. Networks side by side draw from `streams`.
    """
    if inputs.device.type != "cuda":
        return train_step
    try:
        recorded = Recorded(run, inputs, labels, streams)
        problem = disagreement(recorded, run, inputs, labels)
    except RuntimeError as error:
        problem = str(error)
    if not problem:
        return recorded
    warnings.warn(
        f"the step could not be recorded, training goes on without: {problem}", stacklevel=2
    )
    return train_step


def disagreement(recorded: Recorded, run: Run, inputs: Tensor, labels: Tensor) -> str:
    """Where the run differs after two steps, recorded or called; empty where it does not.

    The learning rate and the share of the average are others than those of the recording.
    """
    rate, share = run.learning_rate / 2, 0.25

    def called() -> None:
        loss, _answered = _forward(run, inputs, labels)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        _descend(run, loss)
        if run.average is not None:
            run.average.move(share)

    ends = []
    own = [group["lr"] for group in run.optimizer.param_groups]
    try:
        for move in (lambda: recorded.move(inputs, labels, rate, share), called):
            with _unmoved(run):
                for _ in range(2):  # the second shows whether the first was kept
                    recorded.seed(0)
                    move()
                ends.append([value.detach().float().clone() for value in _tensors(run)])
    finally:
        for group, value in zip(run.optimizer.param_groups, own, strict=True):
            group["lr"] = value
    played, expected = ends
    for number, (found, wanted) in enumerate(zip(played, expected, strict=True)):
        if not torch.allclose(found, wanted, rtol=_AGREES, atol=_AGREES):
            difference = (found - wanted).abs().max().item()
            return f"after two steps, tensor {number} of the run differs by {difference:.2g}"
    return ""
