"""Thousands of generated graphs: what our provider claims, it answers as ONNX Runtime's CPU provider does."""

import os
from collections import Counter
from collections.abc import Callable

from conformance.survey import survey

GRAPHS = int(os.environ.get("PROPERTY_GRAPHS", "5000"))
# The same graphs every time; another number draws others.
SEED = int(os.environ.get("PROPERTY_SEED", "1"))


def test_generated_graphs_are_answered_as_on_the_cpu_or_declined(figure: Callable[[str], None]) -> None:
    seeds = [str(SEED * 1_000_000 + i) for i in range(GRAPHS)]
    outcomes = survey("property.worker", seeds)
    counts = Counter(outcome.status for outcome in outcomes.values())
    covered = Counter[str]()
    for outcome in outcomes.values():
        covered.update(outcome.notes)
    figure(f"generated graphs (PROPERTY_SEED={SEED}): {counts.total()}, {dict(sorted(counts.items()))}")
    figure(f"operators our provider ran in them: {len(covered)}: {', '.join(sorted(covered))}")
    wrong = [o for o in outcomes.values() if o.status in ("wrong", "crash")]
    assert not wrong, "\n".join(
        f"{o.status}: PYTHONPATH=tests python -m property.worker --show {o.name}  # {o.detail}" for o in wrong[:50]
    )
    # A provider that declined everything would pass the line above.
    assert counts["equal"] >= 0.8 * counts.total()
