"""What a search varies."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from mnist_models.models import EXPERIMENTS
from mnist_models.models.funnel import Funnel, funnel
from mnist_models.recipe import Affine, Jitter
from mnist_models.search.space import Choice, Range, Setting, SpaceError, read_setting, vary

BASE = replace(EXPERIMENTS["frontier-4k"], build=partial(funnel, "4/4"))


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("learning_rate=0.1,0.2", Choice("learning_rate", ("0.1", "0.2"))),
        ("average=none", Choice("average", ("none",))),
        ("plan=8-12u/12, 4", Choice("plan", ("8-12u/12", "4"))),
        ("learning_rate=0.05..0.5", Range("learning_rate", 0.05, 0.5)),
        ("learning_rate=1e-4..1", Range("learning_rate", 1e-4, 1.0)),
        ("batch_size=16..128", Range("batch_size", 16.0, 128.0)),
    ],
)
def test_settings_are_read(text: str, setting: Setting) -> None:
    assert read_setting(text) == setting


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate", "expected a setting and its values"),
        ("=0.1", "expected a setting and its values"),
        ("learning_rate=", "expected a setting and its values"),
        ("learning_rate=0.1,,0.2", "expected a setting and its values"),
        ("learning_rate=0.1,0.1", "expected each value once; 0.1 is there twice"),
        ("learning_rate=0.5..0.1", "expected two numbers above 0, the smaller one first"),
        ("learning_rate=0..1", "expected two numbers above 0"),
        ("learning_rate=a..b", "expected two numbers above 0"),
        ("learning_rate=1..inf", "expected two numbers above 0"),
    ],
)
def test_what_is_no_setting_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        read_setting(text)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("learning_rate", "0.4", lambda e: e.recipe.learning_rate == 0.4),
        ("learning_rate", 0.4, lambda e: e.recipe.learning_rate == 0.4),
        ("batch_size", "32", lambda e: e.recipe.batch_size == 32),
        ("nesterov", "true", lambda e: e.recipe.nesterov is True),
        ("average", "none", lambda e: e.recipe.average is None),
        ("average", "0.99", lambda e: e.recipe.average == 0.99),
        ("optimizer", "adamw", lambda e: e.recipe.optimizer == "adamw"),
        ("schedule.warm_up", "0.3", lambda e: e.recipe.schedule.warm_up == 0.3),
        ("augmentation.degrees", "12", lambda e: e.recipe.augmentation[0].degrees == 12),
        ("augmentation.scale", "0.9:1.2", lambda e: e.recipe.augmentation[0].scale == (0.9, 1.2)),
        ("plan", "8/8", lambda e: e.build().plan == "8/8"),
        ("residual", "true", lambda e: e.build().residual is True),
        ("dropout", "0.5", lambda e: e.build().dropout.p == 0.5),
    ],
)
def test_a_setting_changes_that_alone(name: str, value: Any, found: Any) -> None:
    assert not found(BASE)
    arm = vary(BASE, {name: value})
    assert found(arm)
    assert arm.name.startswith("frontier-4k.")
    assert arm.name != BASE.name
    head = name.split(".", maxsplit=1)[0]
    if hasattr(BASE.recipe, head):
        assert replace(arm.recipe, **{head: getattr(BASE.recipe, head)}) == BASE.recipe
        assert arm.build is BASE.build
    else:
        assert arm.recipe == BASE.recipe
    assert pickle.loads(pickle.dumps(arm.build))().plan  # workers are sent it


def test_names_tell_arms_apart_and_know_them_again() -> None:
    names = [vary(BASE, {"learning_rate": rate}).name for rate in ("0.1", "0.4", "0.40", 0.4)]
    assert names[0] != names[1] == names[2] == names[3]
    both = {"learning_rate": "0.4", "plan": "8/8"}
    assert vary(BASE, both).name == vary(BASE, dict(reversed(both.items()))).name


def test_values_that_are_its_own_leave_the_experiment() -> None:
    own = {"learning_rate": "0.02", "plan": "4/4", "residual": "false", "augmentation.degrees": "8"}
    assert vary(BASE, own) is BASE
    assert vary(BASE, {}) is BASE


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("rate", "1", "frontier-4k has no setting 'rate'; there are optimizer, .*, plan, "),
        ("schedule.rate", "1", "OneCycle has no rate; there are anneal, start_divisor, warm_up"),
        ("augmentation.rate", "1", "found in 0 augmentations, expected in one"),
        ("epochs.number", "1", "epochs has no parts"),
        ("learning_rate", "fast", "found 'fast', expected a number"),
        ("learning_rate", "nan", "found 'nan', expected a number"),
        ("learning_rate", "none", "found 'none', expected a number"),
        ("batch_size", "0.5", "expected a whole number"),
        ("nesterov", "maybe", "expected true or false"),
        ("optimizer", "lion", "expected one of sgd, adam, adamw, muon"),
        ("activation", "tanh", "expected one of relu, silu, gelu, prelu"),
        ("augmentation.scale", "1", "expected two numbers with a colon between"),
    ],
)
def test_what_it_does_not_have_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        vary(BASE, {name: value})


def test_a_field_of_two_augmentations_is_ambiguous() -> None:
    twice = replace(BASE.recipe, augmentation=(Affine(5), Affine(9), Jitter(0.1)))
    base = replace(BASE, recipe=twice)
    with pytest.raises(SpaceError, match="found in 2 augmentations"):
        vary(base, {"augmentation.degrees": "7"})
    changed = vary(base, {"augmentation.brightness": "0.4"}).recipe.augmentation
    assert changed == (Affine(5), Affine(9), Jitter(0.4))


def test_a_builder_without_arguments_has_none() -> None:
    with pytest.raises(SpaceError, match="steps-1 has no setting 'plan'"):
        vary(EXPERIMENTS["steps-1"], {"plan": "8"})
    assert isinstance(BASE.build(), Funnel)
