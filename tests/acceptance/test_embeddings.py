"""all-MiniLM-L6-v2 on OpenCL: as exact as on the CPU, in one partition, with the behaviour the model is known for."""

import json
import random
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnxruntime
import plugin
import pytest

from quickstart_model import FOLDER, NAME, tokenizer, tokens
from serving import Server, serve

LONGEST = 250
COUNT = 200


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """The quickstart on OpenCL and on ONNX Runtime's CPU provider."""
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as stack:
        folder = FOLDER.parents[2]
        yield {device: stack.enter_context(serve(folder, logs / device, device)) for device in ("opencl", "cpu")}


def embed(server: Server, texts: list[str]) -> np.ndarray:
    """[texts, 384], a few at a time: a batch on a CPU behind OpenCL takes its time."""
    rows = []
    for start in range(0, len(texts), 4):
        body = {"model": NAME, "input": texts[start : start + 4], "encoding_format": "float"}
        request = urllib.request.Request(
            f"{server.url}/v1/embeddings", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as response:
            rows += [item["embedding"] for item in json.load(response)["data"]]
    return np.array(rows)


def sentences() -> list[str]:
    """Lengths from 1 to 250 tokens, evenly, out of words that are one token each."""
    generator = random.Random(3)
    vocabulary = tokenizer().get_vocab()
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2)
    lengths = [1 + index * (LONGEST - 1) // (COUNT - 1) for index in range(COUNT)]
    generator.shuffle(lengths)
    texts = [" ".join(generator.choices(words, k=length)) for length in lengths]
    counted = {len(encoding.ids) - 2 for encoding in tokenizer().encode_batch(texts)}  # less [CLS] and [SEP]
    assert (min(counted), max(counted)) == (1, LONGEST)
    return texts


def test_two_hundred_sentences_agree_with_the_cpu(servers: dict[str, Server], figure: Callable[[str], None]) -> None:
    texts = sentences()
    ours, reference = (embed(servers[device], texts) for device in ("opencl", "cpu"))
    difference = np.abs(ours - reference).max()
    figure(f"MiniLM, {COUNT} sentences of 1–{LONGEST} tokens, OpenCL against CPU: max abs difference {difference:.2e}")
    assert np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-5
    assert difference <= 1e-5


@pytest.mark.parametrize(
    ("anchor", "near", "far"),
    [
        ("A man is eating food.", "A man is eating a piece of bread.", "A monkey is playing drums."),
        ("How do I get a refund?", "Where can I ask for my money back?", "The museum opens at nine."),
        ("The cat sits outside.", "A kitten is in the garden.", "He is writing Python code."),
    ],
)
def test_the_nearer_sentence_is_nearer(servers: dict[str, Server], anchor: str, near: str, far: str) -> None:
    a, n, f = embed(servers["opencl"], [anchor, near, far])
    assert a @ n > a @ f + 0.2


def test_the_model_is_one_partition_and_only_shape_arithmetic_stays_on_the_cpu(figure: Callable[[str], None]) -> None:
    session = plugin.session(FOLDER / "model.onnx")
    parts, left = plugin.partitions(session), plugin.left_on_cpu(session)
    figure(f"MiniLM: partitions {parts}, left on the CPU {left}")
    assert len(parts) == 1
    assert set(left) <= {"Shape"}


@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (1, 256), (3, 17), (8, 64), (2, 512)])
def test_hidden_states_agree_with_the_cpu(batch: int, sequence: int, figure: Callable[[str], None]) -> None:
    random = np.random.default_rng(batch * sequence)
    ids = random.integers(999, 30000, (batch, sequence))
    mask = np.ones_like(ids)
    mask[1:, sequence // 2 + 1 :] = 0
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    ours = plugin.session(FOLDER / "model.onnx").run(None, feeds)[0]
    reference = plugin.cpu_session(FOLDER / "model.onnx").run(None, feeds)[0]
    difference = np.abs(ours - reference).max()
    figure(f"MiniLM hidden states [{batch}, {sequence}]: max abs difference {difference:.2e}")
    assert difference <= 2e-5


def test_one_session_takes_shapes_as_they_come() -> None:
    session, reference = plugin.session(FOLDER / "model.onnx"), plugin.cpu_session(FOLDER / "model.onnx")
    for texts in (["short"], ["a", "much longer sentence than the first one"], ["short"], ["x " * 100] * 3):
        ids, mask = tokens(texts)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        difference = np.abs(session.run(None, feeds)[0] - reference.run(None, feeds)[0])
        assert difference.max() <= 2e-5, texts


def test_a_token_outside_the_vocabulary_is_refused_and_the_session_lives_on() -> None:
    session = plugin.session(FOLDER / "model.onnx")
    good = {name: np.ones((1, 4), np.int64) for name in ("input_ids", "attention_mask")}
    good["token_type_ids"] = np.zeros((1, 4), np.int64)
    before = session.run(None, good)[0]
    for wrong in (30522, -30523, 2**40):
        with pytest.raises((RuntimeError, onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument)):
            session.run(None, {**good, "input_ids": np.full((1, 4), wrong)})
    assert np.array_equal(session.run(None, good)[0], before)


def test_the_quickstart_folder_is_served_as_it_is(servers: dict[str, Server]) -> None:
    assert Path(servers["opencl"].repository, "models", NAME, "model.yaml").is_file()
