from __future__ import annotations

import pytest

from mnist_models.checks.result import CheckResult
from mnist_models.tables import check_table, digits, percent, table, verdict

GOOD = CheckResult("parameters", True, 7_846, "< 8,000", "parameters", "all registered")
BAD = CheckResult("dropout", False, 0, "once", "layers", "none ran", "Call it in forward.")
LOST = CheckResult("receptive-field", None, None, ">= 20", "pixels", "no pooling", "Add one.")


def test_columns_line_up() -> None:
    text = table(("name", "count"), [("a", 7_846), ("longer", None)])
    assert text.splitlines() == ["name    count", "------  -----", "a       7,846", "longer      -"]
    assert table(("a",), []).splitlines() == ["a", "-"]


def test_text_from_elsewhere_stays_in_its_cell() -> None:
    assert table(("a",), [("x\n::error::y\x1b[31m",)]).splitlines() == [
        "a",
        "-" * 12,
        "x ::error::y",
    ]
    forged = CheckResult("x", False, "a\nb", None, "", "found\n\x1b[31mthis")
    assert "a b" in check_table([forged])
    assert "FAIL: x: found this." in check_table([forged])


def test_a_check_that_did_not_pass_says_why() -> None:
    text = check_table([GOOD, BAD, LOST])
    assert "7,846" in text
    assert "FAIL: dropout: none ran. Call it in forward." in text
    assert "unknown: receptive-field: no pooling. Add one." in text
    assert "all registered" not in text


def test_what_keeps_several_checks_from_measuring_is_told_once() -> None:
    def crashed(name: str, batch: int, passed: bool | None = None) -> CheckResult:
        return CheckResult(name, passed, None, None, "", f"({batch}x9) does not fit", "Mend it.")

    checks = [crashed("output-shape", 2), crashed("dropout", 64), crashed("a", 5, passed=False)]
    text = check_table([GOOD, *checks, LOST])
    assert text.count("Mend it.") == 2  # what fails tells its own cause
    assert "unknown: output-shape: (2x9) does not fit. Mend it." in text
    assert "unknown: dropout: nothing was measured, see output-shape above\n" in text
    assert "unknown: receptive-field: no pooling. Add one." in text


def test_verdicts() -> None:
    assert verdict([GOOD], "the card") == "keeps the card: the one check passes"
    assert verdict([GOOD, BAD, LOST], "the card") == "does not keep the card: dropout"
    assert verdict([GOOD, LOST], "x").startswith("not known to keep x: receptive-field")
    assert percent(9_955, 10_000) == "99.55 %"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.93421, "0.934"), (16.93, "16.9"), (999.4, "999"), (999.6, "1,000"), (1068.7, "1,069")],
)
def test_numbers_have_three_digits_or_all_before_the_point(number: float, text: str) -> None:
    assert digits(number) == text
