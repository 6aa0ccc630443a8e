from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_models.intervention import Changes
from mnist_models.models import EXPERIMENTS
from mnist_models.probe import answer, digits, run
from mnist_models.trace import NoLogitsError
from tests import zoo

MODELS: dict[str, Callable[[], nn.Module]] = {
    **{name: EXPERIMENTS[name].build for name in ("frontier-8k", "steps-6", "eva4-1", "era-v3")},
    "attention": zoo.Attends,  # torch has a fast way, which it does not always take
    "in place": lambda: zoo.net(head=lambda s, x: s.fc(F.relu_(x.clone()).mul_(2))),
    "inference mode": zoo.Infers,  # in which torch gives some operations whole
    "parts": lambda: zoo.net(head=lambda s, x: s.fc(torch.cat(x.split(4, 1), 1))),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_operations_have_the_numbers_of_the_trace(name: str, training: bool) -> None:
    """The same one is changed, whether the forward is recorded or not."""
    model, image = MODELS[name](), digits(4, seed=3)
    plain = run(model, image, training=training)
    assert torch.equal(answer(model, image, training=training), plain.answer())
    random = [node.number for node in plain.nodes if node.random]
    for number in range(0, len(plain.nodes), max(1, len(plain.nodes) // 5)):
        replace = {number: lambda tensor: tensor * 0.5 + 0.1}
        changed = answer(model, image, Changes(replace), training=training)
        recorded = run(model, image, replace=replace, training=training).answer()
        assert torch.equal(changed, recorded)
    if random and training:
        drawn = answer(model, image, Changes(redraw=random), training=training)
        assert not torch.equal(drawn, plain.answer())


def test_the_network_comes_back() -> None:
    model = zoo.Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    answer(model, digits(4, seed=3), training=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_no_tensor_of_logits_is_said() -> None:
    with pytest.raises(NoLogitsError, match="in training mode the forward pass returned a tuple"):
        answer(zoo.net(head=lambda s, x: (x, x)), digits(4, seed=3), training=True)  # type: ignore[arg-type, return-value] # a slip
    with pytest.raises(NoLogitsError, match=r"in evaluation mode .* returned torch\.int64 numbers"):
        answer(zoo.net(head=lambda s, x: s.fc(x).argmax(1)), digits(4, seed=3))


def test_whole_numbers_are_not_replaced() -> None:
    model = zoo.net(head=lambda s, x: s.fc(x) + x.argmax(1, keepdim=True) * 1.0)
    image = digits(4, seed=3)
    (number,) = [node.number for node in run(model, image).nodes if node.name == "argmax"]

    def never(tensor: Tensor) -> Tensor:
        raise AssertionError

    assert torch.equal(answer(model, image, Changes({number: never})), answer(model, image))
