"""What the notebooks show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from mnist_models import exhibits
from mnist_models.assignment import CARD
from mnist_models.checks import check_module
from mnist_models.data import Dataset
from mnist_models.evaluate import Rescored
from mnist_models.exhibits import Markdown, Picture
from mnist_models.lesson import Again
from mnist_models.models import EXPERIMENTS, era_v1_steps, era_v3
from mnist_models.record import Record
from mnist_models.report.reproduction import rows

from .test_checks_record import run

OWN = EXPERIMENTS["frontier-8k"]
STEPS = [EXPERIMENTS[f"steps-{number}"] for number in range(1, 7)]


def of(name: str, *runs: list[int]) -> dict[str, list[Record]]:
    recipe = EXPERIMENTS[name].recipe.to_dict()
    return {
        name: [
            replace(run(correct), experiment=name, seed=seed, recipe=recipe)
            for seed, correct in enumerate(runs)
        ]
    }


def lines(shown: object) -> list[str]:
    assert isinstance(shown, Markdown)
    assert shown._repr_markdown_() == repr(shown)
    return repr(shown).splitlines()


def test_pictures_are_png_without_a_trace_of_their_making() -> None:
    picture = Picture(Figure(figsize=(1, 1)), "An empty figure.")
    content = picture._repr_png_()
    assert content.startswith(b"\x89PNG")
    assert b"Software" not in content
    assert content == picture._repr_png_()
    assert repr(picture) == "An empty figure."


def test_cells_of_a_table() -> None:
    table = exhibits.rows_of(("a", "b", "c", "d"), [(1_000, None, True, "x|y")])
    assert lines(table)[-1] == "| 1,000 | - | yes | x&#124;y |"
    assert lines(exhibits.findings(["One.", "Two."])) == ["- One.", "- Two."]
    assert lines(exhibits.findings([])) == ["- none"]


def test_the_field_of_every_layer() -> None:
    table = lines(exhibits.field_table(EXPERIMENTS["steps-6"].build()))
    assert "| 2 | max_pool2d | 2x2 | 2x2 | 1x1 | 2 | 12x12 | 16 | 6 |" in table
    assert "| 6 | avg_pool2d | 8x8 | 8x8 | 1x1 | - | 1x1 | 24 | 28 |" in table
    dilated = lines(exhibits.field_table(OWN.build()))
    assert "| pool | max_pool2d | 2x2 | 1x1 | 1x1 | 1 | 27x27 | 10 | 4 |" in dilated
    assert "| convolutions.1.0 | conv2d | 3x3 | 1x1 | 2x2 | 1 | 22x22 | 10 | 8 |" in dilated


def test_checks_show_their_verdict() -> None:
    table = lines(exhibits.check_table(check_module(EXPERIMENTS["steps-6"].build(), CARD)[0]))
    assert sum("| pass |" in line for line in table) == 5
    assert [line.split(" | ")[0] for line in table if "**FAIL**" in line] == ["| receptive-field"]


def test_a_ladder_takes_its_results_from_records() -> None:
    (row,) = rows(of("era-v3", [9_000] * 19 + [9_900], [9_000] * 19 + [9_920]), era_v3.SYSTEM)
    without = replace(row, found=None)
    ablation = replace(without, experiment=EXPERIMENTS["steps-6-constant"])
    text = lines(exhibits.ladder([row, without, ablation]))
    assert [line for line in text if line.startswith("- Result: ")] == [
        "- Result: 99.10 % ± 0.14, minimum 99.00 %, n = 2; claimed: 99.49 %.",
        "- Result: no record yet; claimed: 99.49 %.",
        "- Result: no record yet.",
    ]
    assert text.count(f"- Target: {EXPERIMENTS['era-v3'].target}") == 2


def test_what_a_ladder_changed() -> None:
    table = lines(exhibits.change_table(STEPS))
    assert "| `steps-3` → `steps-4` | network: small → regularised |" in table
    assert table[-1].endswith("schedule: Constant → Power(base 0.65) |")
    assert "momentum: 0.9 → 0.95; augmentation: none → Rotation(degrees 7) + " in table[-2]
    assert lines(exhibits.change_table([OWN, OWN]))[-1].endswith("| nothing |")
    assert "| schedule | OneCycle(" in repr(exhibits.settings(OWN.recipe.to_dict()))


def test_the_best_epoch_flatters() -> None:
    records = of("steps-1", [9_000, 9_910, 9_900], [9_000, 9_930, 9_930])
    table = lines(exhibits.best_against_final(records, ["steps-1", "steps-2"]))
    assert table[-2] == "| `steps-1` | 99.20 % | 99.15 % | +5.0 images | 2 |"
    assert table[-1] == "| `steps-2` | no record yet | - | - | - |"


def test_epochs_and_rates() -> None:
    records = of("steps-1", [9_000, 9_910, 9_900, 9_920])
    last = lines(exhibits.last_epochs(records, ["steps-1", "steps-2"]))
    assert last[-2:] == [
        "| `steps-1` | 0 | 9,910, 9,900, 9,920 |",
        "| `steps-2` | - | no record yet |",
    ]
    rates = lines(exhibits.rate_table(records, ["steps-1", "steps-2"]))
    assert rates[-2:] == ["| `steps-1` | 0.1, 0.1, 0.1, 0.1 |", "| `steps-2` | no record yet |"]
    line = exhibits.epoch_line(records["steps-1"][0].final, 4)
    assert line.startswith("epoch  4/4  train loss 0.5000 83.33 %")
    assert line.endswith("test loss 0.1000 9,920/10,000 99.20 %")


def test_scores_that_agree_and_that_do_not() -> None:
    found = [Again("a", 0, Rescored(15, 9_950, 9_950 + off, 10_000)) for off in (2, 3)]
    table = lines(exhibits.again_table(found))
    assert [line.rsplit("| ", 1)[1] for line in table[-2:]] == ["yes |", "no |"]
    assert "Skipped" in repr(exhibits.again_table([]))


def test_a_short_run_says_so(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTEBOOK_QUICK", raising=False)
    full = repr(exhibits.run_note(OWN, digits))
    assert full.startswith("**Full run**")
    assert "15 epochs on 1,437 images of digits and scores 360 others" in full
    monkeypatch.setenv("NOTEBOOK_QUICK", "1")
    assert repr(exhibits.run_note()).startswith("**Quick run**")


def test_the_stand_in_is_named(mnist: Dataset, digits: Dataset) -> None:
    assert "The stand-in" in repr(exhibits.data_table(digits))
    assert "The stand-in" not in repr(exhibits.data_table(mnist))
    records = of("frontier-8k", [9_000] * 14 + [9_950])
    for shown in (
        exhibits.samples(digits),
        exhibits.misclassified(records, OWN, digits),
        exhibits.training_against_test(Path(), records, [OWN], digits),
    ):
        assert "Skipped" in repr(shown)
    assert isinstance(exhibits.samples(mnist), Picture)


def test_figures_wait_for_records(digits: Dataset) -> None:
    for shown in (
        exhibits.curves({}, OWN.system),
        exhibits.confusion({}, OWN),
        exhibits.misclassified({}, OWN, digits),
    ):
        assert "no record yet" in repr(shown)
    records = of("frontier-8k", [9_000] * 14 + [9_950])
    assert isinstance(exhibits.curves(records, OWN.system), Picture)
    assert "no record yet" in repr(exhibits.curves(records, era_v1_steps.SYSTEM))
