"""The test models are what README.md says: they load and run on ONNX Runtime's CPU provider, their bytes are stable."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models.make_models import MODELS, make
from models.small import DATATYPES

README = Path(__file__).with_name("README.md").read_text()


def run(name: str, **feeds: np.ndarray) -> list[np.ndarray]:
    model = MODELS[name]().SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def test_every_model_is_listed_in_the_readme() -> None:
    listed = [name for name in MODELS if f"`{name}`" in README or name.startswith("identity_")]
    assert listed == list(MODELS)
    assert all(name.lower() in README for name in DATATYPES if not name.startswith(("UINT", "INT")))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_loads(name: str) -> None:
    model = MODELS[name]().SerializeToString()
    onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_activations_stay_in_range_and_follow_the_image(name: str) -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), dtype=np.float32)
    (logits,) = run(name, input=images)
    assert 0.1 < logits.std() < 10
    assert np.abs(logits[0] - logits[1]).max() > 0.05 * np.abs(logits).max()


def test_odd_models_compute_what_their_name_says() -> None:
    y, peaks = run("loop", times=np.array(3), x=np.ones((1, 4), np.float32))
    assert (y.tolist(), peaks.tolist()) == ([[1.0, 3.0, 4.5, 5.0]], [2.25, 3.375, 5.0])
    assert run("uppercase", text=np.array(["abc", "Xy"], object))[0].tolist() == ["ABC", "XY"]
    assert run("classify", scores=np.eye(3, dtype=np.float32))[0].tolist() == ["Füchse", "", "cat"]
    places, values = run("nonzero", x=np.array([[0, 2], [3, -1]], np.float32))
    assert (places.tolist(), values.tolist()) == ([[0, 1], [1, 0]], [4, 3])


def test_the_branch_doubles_above_zero_and_negates_below() -> None:
    ones = np.ones((1, 4), np.float32)
    (below,), (above,) = run("branch", x=ones), run("branch", x=-ones)
    assert np.abs(below).max() > 0
    assert np.allclose(above, 2 * below)  # −w·w for ones, 2·(−w)·w for minus ones


def test_the_same_names_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        make(tmp_path / folder, ["lstm", "mobilenet_v2", "broken"])
    first = {path.relative_to(tmp_path / "first"): path for path in (tmp_path / "first").rglob("*") if path.is_file()}
    assert len(first) > 8
    for name, path in first.items():
        assert path.read_bytes() == (tmp_path / "second" / name).read_bytes(), name
