"""Draws graphs by seed and compares our provider with ONNX Runtime's CPU provider (see `conformance.survey`).

Statuses: `equal` our provider ran every node · `partly` it ran some · `declined` none · `no_reference` the CPU provider
refuses the graph, and ours does or declines · `wrong`.

    PYTHONPATH=tests python -m property.worker --show SEED

draws one graph again, prints it and says where the answers part.
"""

import sys

import numpy as np
import onnx
import onnxruntime as ort
import plugin
from conformance.survey import Outcome, serve

from property.draft import Draft, Refusal
from property.templates import TEMPLATES

RTOL = 1e-4


def draw(seed: int) -> Draft:
    """One graph of one to eight drawn operators."""
    draft = Draft(seed)
    weights, templates = zip(*TEMPLATES, strict=True)
    wanted = draft.random.randint(1, 8)
    for _ in range(4 * wanted):
        if len(draft.nodes) >= wanted:
            break
        try:
            draft.random.choices(templates, weights)[0](draft)
        except Refusal:
            continue
    return draft if draft.nodes else draw(seed + 2**32)


def session(model: onnx.ModelProto, ours: bool, level: ort.GraphOptimizationLevel) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not ours:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_provider_for_devices(plugin.devices()[:1], {})
    return ort.InferenceSession(model.SerializeToString(), options, enable_fallback=False)


def parts(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """How two answers differ, or None."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return f"{ours.dtype}{list(ours.shape)} instead of {theirs.dtype}{list(theirs.shape)}"
    if ours.dtype != np.float32:
        return None if np.array_equal(ours, theirs) else f"{ours.ravel()[:6]} instead of {theirs.ravel()[:6]}"
    # A sum of large numbers that cancel is only as good as the large numbers.
    finite = theirs[np.isfinite(theirs)]
    scale = max(1.0, float(np.abs(finite).max(initial=0.0)))
    if np.allclose(ours, theirs, rtol=RTOL, atol=RTOL * scale, equal_nan=True):
        return None
    worst = np.nanargmax(np.abs(ours - theirs).ravel())
    return f"{ours.ravel()[worst]} instead of {theirs.ravel()[worst]} at {worst} of {ours.size}"


def shares(made: ort.InferenceSession) -> tuple[dict[str, int], int]:
    """The operators that we run with their number, and how many nodes others run."""
    ours: dict[str, int] = {}
    others = 0
    for part in made.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            if part.ep_name == plugin.PROVIDER:
                ours[node.op_type] = ours.get(node.op_type, 0) + 1
            else:
                others += 1
    return ours, others


def outcome(name: str) -> Outcome:
    seed = int(name)
    draft = draw(seed)
    model = draft.model()
    levels = [ort.GraphOptimizationLevel.ORT_ENABLE_ALL, ort.GraphOptimizationLevel.ORT_DISABLE_ALL]
    level = levels[seed % 2]
    reference = ours = None
    try:
        reference = session(model, False, levels[1]).run(None, draft.feeds)
    except Exception as error:
        refused = str(error).split("\n")[0]
    try:
        made = session(model, True, level)
        claimed, others = shares(made)
        # Twice: the second run finds the plan of the first.
        ours = [made.run(None, draft.feeds) for _ in range(2)][1]
    except Exception as error:
        reason = str(error).split("\n")[0]
        return Outcome(name, "no_reference" if reference is None else "wrong", reason)
    if reference is None:
        return Outcome(name, "no_reference", refused, claimed)
    for output, a, b in zip(made.get_outputs(), ours, reference, strict=True):
        if difference := parts(a, b):
            return Outcome(name, "wrong", f"{output.name}: {difference}", claimed)
    status = "equal" if not others else "partly" if claimed else "declined"
    return Outcome(name, status, notes=claimed)


def show(seed: int) -> None:
    """The graph of a seed, and every value of it on both providers."""
    draft = draw(seed)
    model = draft.model()
    print(onnx.printer.to_text(model))
    print(outcome(str(seed)))
    known = {o.name for o in model.graph.output}
    for value in draft.produced:
        if value.name not in known:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(value.name))
            model.graph.output[-1].type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(
                np.dtype(value.dtype)
            )
    level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    answers = [session(model, ours, level).run(None, draft.feeds) for ours in (True, False)]
    for output, a, b in zip(model.graph.output, *answers, strict=True):
        print(output.name, a.shape, parts(a, b) or "equal")


def main() -> None:
    if sys.argv[1:2] == ["--show"]:
        show(int(sys.argv[2]))
        return
    plugin.devices()
    serve(outcome)


if __name__ == "__main__":
    main()
