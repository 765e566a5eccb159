"""ResNet-50 and MobileNetV2 on OpenCL: one partition, as exact as on the CPU, alone or in company."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import plugin
import pytest
import tritonclient.http

from models.make_models import make
from serving import Server, serve

NETWORKS = ["mobilenet_v2", "resnet50"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    make(folder, NETWORKS)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(repository, tmp_path_factory.mktemp("logs") / "engine.log", "opencl") as server:
        yield server


def images(count: int) -> np.ndarray:
    """Smooth colour fields and noise, scaled as preprocessing leaves them."""
    random = np.random.default_rng(count)
    coarse = random.standard_normal((count, 3, 7, 7), dtype=np.float32)
    smooth = coarse.repeat(32, axis=2).repeat(32, axis=3)
    return smooth + 0.3 * random.standard_normal((count, 3, 224, 224), dtype=np.float32)


def relative_error(ours: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_one_partition_and_nothing_stays_on_the_cpu(repository: Path, name: str) -> None:
    session = plugin.session(repository / name / "1/model.onnx")
    assert len(plugin.partitions(session)) == 1
    assert plugin.left_on_cpu(session) == []


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_agree_with_the_cpu(repository: Path, name: str, batch: int, figure: Callable[[str], None]) -> None:
    model = repository / name / "1/model.onnx"
    feeds = {"input": images(batch)}
    error = relative_error(plugin.session(model).run(None, feeds)[0], plugin.cpu_session(model).run(None, feeds)[0])
    figure(f"{name}, batch {batch}, OpenCL against CPU: relative error {error:.2e}")
    assert error <= 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_images_that_arrive_together_are_answered_as_if_alone(
    server: Server, name: str, figure: Callable[[str], None]
) -> None:
    pictures = images(9)
    requests = [pictures[:1], pictures[1:3], pictures[3:4], pictures[4:7], pictures[7:8], pictures[8:]]  # 1 2 1 3 1 1

    def inputs(batch: np.ndarray) -> list[tritonclient.http.InferInput]:
        tensor = tritonclient.http.InferInput("input", batch.shape, "FP32")
        tensor.set_data_from_numpy(batch)
        return [tensor]

    with tritonclient.http.InferenceServerClient(server.http, concurrency=8, network_timeout=300) as client:

        def counts() -> tuple[int, int]:
            (model,) = client.get_inference_statistics(name)["model_stats"]
            return model["inference_count"], model["execution_count"]

        alone = [client.infer(name, inputs(batch)).as_numpy("output") for batch in requests]
        rows, runs = counts()
        waiting = [client.async_infer(name, inputs(batch)) for batch in requests]
        together = [each.get_result().as_numpy("output") for each in waiting]
        rows, runs = (now - before for now, before in zip(counts(), (rows, runs), strict=True))

    assert rows == len(pictures)
    assert runs < len(requests), "the requests never met in a batch"
    error = max(relative_error(a, b) for a, b in zip(together, alone, strict=True))
    figure(f"{name}: {len(requests)} requests of 1–3 images in {runs} runs: relative difference to alone {error:.2e}")
    assert error <= 1e-5
