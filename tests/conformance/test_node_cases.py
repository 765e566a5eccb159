"""Every node test of the `onnx` package, in a session with our provider: right on OpenCL, or right on the CPU."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.cases import all_cases
from conformance.operators import table
from conformance.survey import Outcome, survey

DOCUMENT = Path(__file__).parents[2] / "docs/operators.md"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return survey("conformance.worker", list(all_cases()))


def test_onnx_node_cases_never_crash_and_are_never_wrong(
    outcomes: dict[str, Outcome], figure: Callable[[str], None]
) -> None:
    counts = Counter(outcome.status for outcome in outcomes.values())
    figure(f"onnx node cases: {counts.total()} run, {dict(sorted(counts.items()))}")
    assert counts.total() >= 1884
    ours = [o for o in outcomes.values() if o.status in ("wrong", "crash")]
    assert not ours, "\n".join(f"{o.status}: {o.name}: {o.detail}" for o in ours)


def test_the_committed_table_of_operators_is_the_measured_one(outcomes: dict[str, Outcome]) -> None:
    assert DOCUMENT.read_text() == table(all_cases(), outcomes), "run `make operators` and commit docs/operators.md"
