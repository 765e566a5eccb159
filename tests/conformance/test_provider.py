"""The provider as a guest of ONNX Runtime: what it claims, what it refuses, what it leaves behind."""

import gc
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import plugin
import pytest
from onnx import helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, InvalidArgument

from models.graph import BOOL, FLOAT, INT64, STRING, Graph

TESTS = Path(__file__).parents[1]


def increment() -> bytes:
    graph = Graph()
    x = graph.input("x", FLOAT, ["n", 3])
    graph.op("Add", x, graph.weight("one", 1.0), name=graph.output("y", FLOAT, ["n", 3]))
    return graph.model("increment").SerializeToString()


def with_options(options: dict[str, str], devices: int = 1) -> ort.InferenceSession:
    configured = ort.SessionOptions()
    configured.add_provider_for_devices(plugin.devices()[:1] * devices, options)
    return ort.InferenceSession(increment(), configured, enable_fallback=False)


def matrix(rows: int) -> np.ndarray:
    return np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)


# Options and devices


@pytest.mark.parametrize("options", [{"plan_cache": "1"}, {"cache_dir": "none"}, {"profile": "1"}])
def test_every_option_is_accepted_and_answers_stay_right(options: dict[str, str]) -> None:
    session = with_options(options)
    for rows in (1, 4, 1):
        assert np.array_equal(session.run(None, {"x": matrix(rows)})[0], matrix(rows) + 1)


def test_a_folder_for_compiled_programs_is_used(tmp_path: Path) -> None:
    with_options({"cache_dir": str(tmp_path)}).run(None, {"x": matrix(2)})
    assert any(tmp_path.rglob("*")), "nothing was kept"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"plan_cach": "4"}, "there is no option 'plan_cach'"),
        ({"plan_cache": "0"}, "'0' is no value for the option 'plan_cache'"),
        ({"profile": "yes"}, "'yes' is no value for the option 'profile'"),
    ],
)
def test_a_wrong_option_is_an_error_that_lists_the_right_ones(options: dict[str, str], said: str) -> None:
    with pytest.raises(Exception, match=said) as error:
        with_options(options)
    assert "plan_cache (1 to 4096)" in str(error.value)


def test_selecting_two_devices_is_refused_rather_than_one_ignored() -> None:
    with pytest.raises(Exception, match="exactly one device"):
        with_options({}, devices=2)


def test_a_device_says_what_it_is() -> None:
    (device, *_) = plugin.devices()
    assert device.ep_vendor == "Afterglow"
    assert device.device.type == ort.OrtHardwareDeviceType.GPU
    for key in ("device_index", "opencl_name", "opencl_platform", "opencl_version", "driver_version"):
        assert device.ep_metadata[key], key


# Claims


def test_a_whole_model_is_one_partition_although_shapes_are_computed_in_it() -> None:
    graph = Graph()
    x = graph.input("x", FLOAT, ["batch", 2, 6])
    rows = graph.op("Gather", graph.op("Shape", x, name="shape"), graph.weight("zero", [0], np.int64), name="rows")
    target = graph.op("Concat", rows, graph.weight("rest", [3, 4], np.int64), name="target", axis=0)
    graph.op("Relu", graph.op("Reshape", x, target, name="turned"), name=graph.output("y", FLOAT, ["n", 3, 4]))
    session = plugin.session(graph.model("reshaped").SerializeToString())
    assert len(plugin.partitions(session)) == 1
    assert plugin.left_on_cpu(session) == []
    for batch in (1, 3, 0):
        value = np.linspace(-1, 1, batch * 12, dtype=np.float32).reshape(batch, 2, 6)
        assert np.array_equal(session.run(None, {"x": value})[0], np.maximum(value.reshape(batch, 3, 4), 0))


def test_nodes_around_strings_and_data_dependent_shapes_stay_on_the_cpu_and_answers_are_right() -> None:
    graph = Graph()
    x = graph.input("x", FLOAT, ["n", 4])
    names = graph.input("names", STRING, ["n"])
    w = graph.weight("w", np.eye(4)[::-1])
    turned = graph.op("MatMul", x, w, name="turned")
    graph.op("NonZero", turned, name=graph.output("places", INT64, [2, "found"]))
    graph.op("MatMul", turned, w, name=graph.output("back", FLOAT, ["n", 4]))
    graph.op("Identity", names, name=graph.output("same", STRING, ["n"]))
    session = plugin.session(graph.model("mixed").SerializeToString())
    assert "NonZero" in plugin.left_on_cpu(session)
    assert sum(plugin.partitions(session)) == 2
    value = np.array([[0, 1, 0, 2], [3, 0, 0, 0]], dtype=np.float32)
    places, back, same = session.run(None, {"x": value, "names": np.array(["a", ""], dtype=object)})
    assert np.array_equal(places, np.array(np.nonzero(value[:, ::-1])))
    assert np.array_equal(back, value)
    assert same.tolist() == ["a", ""]


def branch() -> onnx.ModelProto:
    """y = (c ? h + x : h · w) · w, where h = x · w is read by the bodies only."""
    graph = Graph()
    x = graph.input("x", FLOAT, ["n", 3])
    condition = graph.input("c", BOOL, [])
    w = graph.weight("w", np.diag([1, 2, 3]))
    graph.op("MatMul", x, w, name="h")
    yes, no = Graph(), Graph()
    yes.op("Add", "h", "x", name=yes.output("yes", FLOAT, ["n", 3]))
    no.op("MatMul", "h", "w", name=no.output("no", FLOAT, ["n", 3]))
    chosen = graph.op("If", condition, name="chosen", then_branch=yes.body("yes"), else_branch=no.body("no"))
    graph.op("MatMul", chosen, w, name=graph.output("y", FLOAT, ["n", 3]))
    return graph.model("branch")


def test_values_that_only_bodies_of_control_flow_read_leave_their_partition() -> None:
    session = plugin.session(branch().SerializeToString())
    assert len(plugin.partitions(session)) == 2
    assert "If" in plugin.left_on_cpu(session)
    w = np.diag([1, 2, 3]).astype(np.float32)
    for choice in (True, False):
        h = matrix(2) @ w
        expected = (h + matrix(2) if choice else h @ w) @ w
        assert np.array_equal(session.run(None, {"x": matrix(2), "c": np.array(choice)})[0], expected)


def test_a_loop_whose_body_works_on_tensors_is_right() -> None:
    body = Graph()
    body.input("i", INT64, [])
    body.input("go", BOOL, [])
    state = body.input("state", FLOAT, ["n", 3])
    body.op("Identity", "go", name=body.output("again", BOOL, []))
    body.op("MatMul", state, "w", name=body.output("next", FLOAT, ["n", 3]))
    body.op("ReduceMax", state, name=body.output("peak", FLOAT, []), keepdims=0)
    graph = Graph()
    times, x = graph.input("times", INT64, []), graph.input("x", FLOAT, ["n", 3])
    w = graph.weight("w", np.diag([1, 2, 3]))
    start = graph.op("MatMul", x, w, name="start")
    y, peaks = graph.output("y", FLOAT, ["n", 3]), graph.output("peaks", FLOAT, ["times"])
    graph.op("Loop", times, "", start, name=[y, peaks],
             body=body.body("body"))  # fmt: skip
    session = plugin.session(graph.model("loop").SerializeToString())
    for steps in (0, 1, 4):
        state = matrix(2) @ np.diag([1, 2, 3]).astype(np.float32)
        peaks = []
        for _ in range(steps):
            peaks.append(state.max())
            state = state @ np.diag([1, 2, 3]).astype(np.float32)
        y, seen = session.run(None, {"times": np.array(steps), "x": matrix(2)})
        assert np.array_equal(y, state)
        assert seen.ravel().tolist() == [float(p) for p in peaks]


def test_a_constant_that_the_caller_may_override_is_an_input() -> None:
    graph = Graph()
    x = graph.input("x", FLOAT, ["n", 3])
    graph.weight("offset", [1, 1, 1])
    graph.input("offset", FLOAT, [3])
    graph.op("Add", x, "offset", name=graph.output("y", FLOAT, ["n", 3]))
    session = plugin.session(graph.model("overridable").SerializeToString())
    assert np.array_equal(session.run(None, {"x": matrix(2)})[0], matrix(2) + 1)
    other = np.array([1, 2, 3], dtype=np.float32)
    assert np.array_equal(session.run(None, {"x": matrix(2), "offset": other})[0], matrix(2) + other)


def test_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    graph = Graph()
    w = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    graph.op(
        "MatMul", graph.input("x", FLOAT, ["n", 64]), graph.weight("w", w), name=graph.output("y", FLOAT, ["n", 64])
    )
    model = graph.model("external")
    onnx.save_model(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    session = plugin.session(tmp_path / "model.onnx")
    assert plugin.partitions(session) == [1]
    x = np.eye(64, dtype=np.float32)
    assert np.allclose(session.run(None, {"x": x})[0], w, atol=1e-6)


def test_a_weight_that_both_providers_read_is_right_on_both() -> None:
    graph = Graph()
    x = graph.input("x", FLOAT, ["n", 3])
    w = graph.weight("w", np.diag([1, 0, 3]))
    graph.op("MatMul", x, w, name=graph.output("y", FLOAT, ["n", 3]))
    graph.op("NonZero", graph.op("Mul", w, graph.op("ReduceMax", x, name="peak", keepdims=0), name="scaled"),
             name=graph.output("places", INT64, [2, "found"]))  # fmt: skip
    y, places = plugin.session(graph.model("shared").SerializeToString()).run(None, {"x": matrix(2)})
    assert np.array_equal(y, matrix(2) @ np.diag([1, 0, 3]).astype(np.float32))
    assert places.tolist() == [[0, 2], [0, 2]]


# Shapes


def test_empty_tensors_and_scalars_come_and_go() -> None:
    graph = Graph()
    a, b = graph.input("a", FLOAT, ["n"]), graph.input("b", FLOAT, [])
    graph.op("Add", a, b, name=graph.output("y", FLOAT, ["n"]))
    session = plugin.session(graph.model("edges").SerializeToString())
    for length in (0, 1, 5):
        value = np.arange(length, dtype=np.float32)
        assert np.array_equal(session.run(None, {"a": value, "b": np.array(2, dtype=np.float32)})[0], value + 2)


def test_more_input_shapes_than_plans_are_kept_stay_right() -> None:
    session = with_options({"plan_cache": "2"})
    for rows in [1, 2, 3, 4, 1, 4, 2, 3, 1]:
        assert np.array_equal(session.run(None, {"x": matrix(rows)})[0], matrix(rows) + 1)


# Errors


def gather() -> ort.InferenceSession:
    graph = Graph()
    table = graph.weight("table", np.arange(12).reshape(4, 3))
    rows = graph.input("rows", INT64, ["n"])
    graph.op("Gather", table, rows, name=graph.output("y", FLOAT, ["n", 3]), axis=0)
    return plugin.session(graph.model("gather").SerializeToString())


def test_an_index_out_of_range_is_the_callers_error_and_the_session_lives_on() -> None:
    session = gather()
    assert plugin.partitions(session) == [1]
    for bad in (4, -5, 2**40):
        with pytest.raises(InvalidArgument, match=r"index .* is out of range"):
            session.run(None, {"rows": np.array([0, bad])})
        assert session.run(None, {"rows": np.array([3, -4])})[0].tolist() == [[9, 10, 11], [0, 1, 2]]


def test_shapes_that_do_not_fit_are_the_callers_error_and_the_session_lives_on() -> None:
    graph = Graph()
    a, b = graph.input("a", FLOAT, ["n"]), graph.input("b", FLOAT, ["m"])
    graph.op("Add", a, b, name=graph.output("y", FLOAT, ["k"]))
    session = plugin.session(graph.model("sum").SerializeToString())
    two, three = np.ones(2, dtype=np.float32), np.ones(3, dtype=np.float32)
    with pytest.raises(InvalidArgument, match="Add"):
        session.run(None, {"a": two, "b": three})
    assert session.run(None, {"a": two, "b": two})[0].tolist() == [2, 2]


def test_a_shape_too_large_for_any_device_is_an_error_and_the_session_lives_on() -> None:
    graph = Graph()
    x = graph.input("x", FLOAT, ["n", 1])
    size = graph.weight("size", [1, 2**40], np.int64)
    graph.op("Expand", x, size, name="wide")
    bounds = [graph.weight(name, [number], np.int64) for name, number in (("start", 5), ("end", 6), ("axis", 1))]
    graph.op("Slice", "wide", *bounds, name=graph.output("y", FLOAT, ["n", 1]))
    session = plugin.session(graph.model("huge").SerializeToString())
    for _ in range(2):
        with pytest.raises((InvalidArgument, EPFail), match=r"Expand|bytes") as error:
            session.run(None, {"x": np.ones((2, 1), dtype=np.float32)})
        assert "panicked" not in str(error.value)


# Life


def resident_mib() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20


def test_making_and_dropping_sessions_leaves_nothing_behind() -> None:
    graph = Graph()
    w = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    x = graph.input("x", FLOAT, ["n", 512])
    graph.op("MatMul", graph.op("MatMul", x, graph.weight("w", w), name="h"), graph.weight("v", w[::-1]),
             name=graph.output("y", FLOAT, ["n", 512]))  # fmt: skip
    model = graph.model("heavy").SerializeToString()

    def once() -> None:
        session = plugin.session(model)
        session.run(None, {"x": np.ones((16, 512), dtype=np.float32)})
        del session
        gc.collect()

    for _ in range(5):
        once()
    before = resident_mib()
    for _ in range(50):
        once()
    # One session holds more than 2 MiB; fifty would be 100.
    assert resident_mib() - before < 16


def test_threads_that_share_a_session_get_their_own_answers() -> None:
    session = plugin.session(increment())
    wrong: list[int] = []

    def ask(thread: int) -> None:
        for i in range(200):
            value = matrix(1 + (thread + i) % 5) + thread * 1000 + i
            if not np.array_equal(session.run(None, {"x": value})[0], value + 1):
                wrong.append(thread)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    assert not wrong


def alone(script: str) -> str:
    """What a process of its own prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=TESTS, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}\n{done.stderr}"
    return done.stdout


def test_unregistering_the_library_while_a_session_lives_is_survived() -> None:
    printed = alone("""
        import gc
        import numpy as np, onnxruntime as ort, plugin
        from conformance.test_provider import increment, matrix
        session = plugin.session(increment())
        try:
            ort.unregister_execution_provider_library("afterglow.virtual")
        except Exception as error:
            print("refused:", error)
        print(session.run(None, {"x": matrix(1)})[0].tolist())
        del session
        gc.collect()
        print("gone")
    """)
    assert "[[1.0, 2.0, 3.0]]" in printed
    assert "gone" in printed


def test_registering_again_after_unregistering_works() -> None:
    printed = alone("""
        import gc
        import numpy as np, onnxruntime as ort, plugin
        from conformance.test_provider import increment, matrix
        for _ in range(3):
            plugin.devices.cache_clear()
            session = plugin.session(increment())
            print(session.run(None, {"x": matrix(1)})[0].tolist())
            del session
            gc.collect()
            plugin.devices.cache_clear()
            ort.unregister_execution_provider_library("afterglow.virtual")
    """)
    assert printed.count("[[1.0, 2.0, 3.0]]") == 3


def test_a_machine_without_opencl_has_no_devices_and_no_error() -> None:
    printed = alone(f"""
        import os
        os.environ["OCL_ICD_VENDORS"] = "/nonexistent"
        import onnxruntime as ort
        ort.register_execution_provider_library("afterglow.virtual", {str(plugin.LIBRARY)!r})
        print([d.ep_name for d in ort.get_ep_devices()])
    """)
    assert printed.strip() == "['CPUExecutionProvider']"


def test_attributes_of_every_kind_reach_the_compiler() -> None:
    graph = Graph()
    x = graph.input("x", FLOAT, ["n", 4])
    value = numpy_helper.from_array(np.array([2.5], dtype=np.float32))
    graph.op("ConstantOfShape", graph.op("Shape", x, name="shape"), name="filled", value=value)
    padded = graph.op("Pad", "filled", graph.weight("pads", [0, 1, 0, 1], np.int64), name="padded", mode="edge")
    turned = graph.op("Transpose", padded, name="turned", perm=[1, 0])
    graph.op("Elu", turned, name=graph.output("y", FLOAT, ["m", "n"]), alpha=2.0)
    session = plugin.session(graph.model("attributes").SerializeToString())
    assert plugin.left_on_cpu(session) == []
    assert np.array_equal(session.run(None, {"x": matrix(4).reshape(3, 4)})[0], np.full((6, 3), 2.5, dtype=np.float32))


def test_a_node_without_a_name_is_named_in_errors_by_its_operator() -> None:
    a, b = (helper.make_tensor_value_info(name, FLOAT, [name]) for name in "ab")
    y = helper.make_tensor_value_info("y", FLOAT, None)
    graph = helper.make_graph([helper.make_node("Mul", ["a", "b"], ["y"])], "nameless", [a, b], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = plugin.session(model.SerializeToString())
    with pytest.raises(InvalidArgument, match="Mul"):
        session.run(None, {"a": np.ones(2, dtype=np.float32), "b": np.ones(3, dtype=np.float32)})
