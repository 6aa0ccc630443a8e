from __future__ import annotations

import json

import pytest

from mnist_models.models import EXPERIMENTS
from mnist_models.recipe import OneCycle, Recipe, Rotation, Step


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
