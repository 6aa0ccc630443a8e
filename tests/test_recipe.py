from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mnist_models.models import EXPERIMENTS
from mnist_models.recipe import OneCycle, Recipe, RecipeError, Rotation, Step


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_recipe_survives_json(name: str) -> None:
    table = EXPERIMENTS[name].recipe.to_dict()
    # Compared with what a record holds after loading: tuples must not have become lists.
    assert json.loads(json.dumps(table)) == table


def test_kinds_are_named() -> None:
    recipe = Recipe(
        optimizer="sgd",
        learning_rate=0.1,
        batch_size=4,
        epochs=1,
        schedule=Step(every=2, gamma=0.5),
        augmentation=(Rotation(7),),
    )
    table = recipe.to_dict()
    assert table["schedule"] == {"kind": "Step", "every": 2, "gamma": 0.5}
    assert table["augmentation"] == [{"kind": "Rotation", "degrees": 7}]


def test_recipes_differ_where_a_schedule_does() -> None:
    recipe = Recipe(optimizer="adam", learning_rate=0.1, batch_size=4, epochs=1)
    other = Recipe("adam", 0.1, batch_size=4, epochs=1, schedule=OneCycle(warm_up=0.2))
    assert recipe.to_dict() != other.to_dict()


def test_what_older_records_do_not_have_is_written_only_where_it_is_set() -> None:
    recipe = Recipe(optimizer="adam", learning_rate=0.1, batch_size=4, epochs=1)
    assert replace(recipe, recount=True).to_dict() == recipe.to_dict() | {"recount": True}
    assert replace(recipe, margin=2.0).to_dict() == recipe.to_dict() | {"margin": 2.0}
    assert not {"recount", "margin"} & recipe.to_dict().keys()


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("learning_rate", [0, -0.1, float("nan")], [1e-9, 1e38]),
        ("batch_size", [0, -1], [1]),
        ("epochs", [0], [1]),
        ("momentum", [-0.1, 1], [0, 0.99]),
        ("weight_decay", [-1e-9], [0]),
        ("plain_epochs", [-1], [0]),
        ("label_smoothing", [-0.1, 1], [0, 0.5]),
        ("margin", [-0.1, float("inf"), float("nan")], [0, 2]),
        ("average", [0, 1], [None, 0.5]),
    ],
)
def test_what_no_training_can_have_is_refused(
    name: str, wrong: list[Any], right: list[Any]
) -> None:
    recipe = Recipe(optimizer="adam", learning_rate=0.1, batch_size=4, epochs=1)
    for value in right:
        assert getattr(replace(recipe, **{name: value}), name) == value
    for value in wrong:
        with pytest.raises(RecipeError, match=f"no recipe has {name} = "):
            replace(recipe, **{name: value})
