"""The registry: every published network has exactly the published counts and fields."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mnist_models.assignment import CARD, Limit
from mnist_models.checks import check_against, measure
from mnist_models.checks.record import check_record
from mnist_models.models import EXPERIMENTS, UnknownExperimentError, find_experiment, register
from mnist_models.record import find_records, load_record

REPOSITORY = Path(__file__).resolve().parent.parent

# name: parameters, receptive field before the pooling and at the output (from the documents),
# and the checks on the module that fail: on its own assignment, on this project's card.
PUBLISHED: dict[str, tuple[int, int, int, set[str], set[str]]] = {
    "blocks-1": (16_562, 24, 28, {"parameters"}, {"parameters"}),
    "blocks-2": (7_904, 22, 32, set(), set()),
    "blocks-3": (7_904, 22, 32, set(), set()),
    "steps-1": (13_584, 22, 32, {"parameters"}, {"parameters", "batch-norm", "dropout"}),
    "steps-2": (7_400, 14, 28, set(), {"batch-norm", "dropout", "receptive-field"}),
    "steps-3": (7_624, 14, 28, set(), {"dropout", "receptive-field"}),
    "steps-4": (7_624, 14, 28, set(), {"receptive-field"}),
    "steps-5": (7_624, 14, 28, set(), {"receptive-field"}),
    "steps-6": (7_624, 14, 28, set(), {"receptive-field"}),
    "era-v3": (19_866, 29, 45, set(), {"parameters"}),
    "eva4-1": (9_770, 22, 32, set(), {"parameters"}),
    "eva4-2": (9_770, 22, 32, set(), {"parameters"}),
    "eva4-3": (9_770, 22, 32, set(), {"parameters"}),
    "eva4-final": (8_546, 22, 28, set(), {"parameters", "dropout"}),
    "steps-6-constant": (7_624, 14, 28, set(), {"receptive-field"}),
    "eva4-final-dropout": (8_546, 22, 28, set(), {"parameters"}),
    "attempt-3": (6_842, 22, 28, set(), set()),
}
OWN = [name for name, experiment in EXPERIMENTS.items() if experiment.source is None]
FRONTIER = {f"frontier-{limit}k": 1_000 * limit for limit in (8, 4, 2, 1)}


def test_registry_holds_the_fifteen_and_our_own() -> None:
    assert set(EXPERIMENTS) == set(PUBLISHED) | set(OWN)
    assert [name for name in OWN if name in FRONTIER] == list(FRONTIER)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_fields_and_verdicts(name: str) -> None:
    parameters, before, output, own, card = PUBLISHED[name]
    experiment = EXPERIMENTS[name]
    assert (experiment.breaks, experiment.breaks_card) == (own, card)  # what `check --all` expects
    both, found = check_against(experiment.build(), [experiment.assignment, CARD])
    assert found.parameters == parameters
    assert found.receptive_field_before_pooling == before
    assert found.receptive_field_output == output
    broken = [{check.name for check in checks if check.passed is not True} for checks in both]
    assert broken == [own, card]


@pytest.mark.parametrize("name", OWN)
def test_own_models_keep_the_card_and_their_own_limit(name: str) -> None:
    assignment = EXPERIMENTS[name].assignment
    if name in FRONTIER:
        assert assignment.parameters == Limit("<", FRONTIER[name])
    both, found = check_against(EXPERIMENTS[name].build(), [CARD, assignment])
    assert [check for checks in both for check in checks if check.passed is not True] == []
    assert len(both[0]) == 6
    assert found == measure(EXPERIMENTS[name].build())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = EXPERIMENTS[name].build().train()
    logits = model(torch.randn(8, 1, 28, 28))
    assert logits.shape == (8, 10)
    F.cross_entropy(logits, torch.arange(8)).backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_seed_decides_the_initial_weights(name: str) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return [parameter.detach() for parameter in EXPERIMENTS[name].build().parameters()]

    first, same, other = weights(1), weights(1), weights(2)
    assert all(map(torch.equal, first, same))
    assert not all(map(torch.equal, first, other))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_prose_is_there(name: str) -> None:
    experiment = EXPERIMENTS[name]
    assert experiment.target.endswith(".")
    assert experiment.analysis.endswith(".")
    assert (experiment.source is None) == (experiment.claim is None and not experiment.ablates)
    assert all(finding.endswith(".") for finding in experiment.system.findings)
    assert bool(experiment.system.findings) == (experiment.source is not None)
    if experiment.claim is not None:
        assert experiment.claim.problems


def test_blocks_claims_were_measured_on_the_training_set() -> None:
    for name in ("blocks-1", "blocks-2", "blocks-3"):
        claim = EXPERIMENTS[name].claim
        assert claim is not None
        assert claim.measured_on == "training"


def test_a_name_is_registered_once() -> None:
    before = dict(EXPERIMENTS)
    with pytest.raises(ValueError, match="registered already"):
        register(replace(EXPERIMENTS["era-v3"], target="another"))
    assert before == EXPERIMENTS


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownExperimentError, match="once it is registered"):
        find_experiment("path/to/model.py:Net")
    with pytest.raises(UnknownExperimentError, match=r"no experiment 'era-v4'; there are .*pt-3"):
        find_experiment("era-v4")


@pytest.mark.parametrize(
    "folder", find_records(REPOSITORY / "records"), ids=lambda f: f"{f.parent.name}-{f.name}"
)
def test_recorded_verdicts(folder: Path) -> None:
    """The records of published experiments may fall short; ours may not, each by its own card."""
    record = load_record(folder)
    experiment = EXPERIMENTS[record.experiment]
    for assignment in (experiment.assignment, CARD):
        found = {check.name: check.passed for check in check_record(record, assignment)}
        assert assignment.epochs is not None
        assert found["epochs"] == assignment.epochs.holds(experiment.recipe.epochs)
        assert found["test-set"] is True
        assert None not in found.values()
        if experiment.source is None:
            smaller = assignment is not experiment.assignment
            excused = {"accuracy", "consistency"} if smaller else set()
            assert {name for name, passed in found.items() if not passed} <= excused
