"""The quickstart's model as tests see it: where it lies, how its texts become tokens."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

NAME = "all-minilm-l6-v2"
FOLDER = Path(__file__).parents[1] / "examples/quickstart/models" / NAME / "1"


@cache
def tokenizer() -> Tokenizer:
    """The file's own truncation (128) and fixed padding are training settings: the sentence encoder's length rules."""
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    longest = json.loads((FOLDER / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer.enable_truncation(longest)
    tokenizer.no_padding()
    return tokenizer


def tokens(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts → input_ids and attention_mask [batch, longest], padded with 0."""
    encoded = [encoding.ids for encoding in tokenizer().encode_batch(texts)]
    longest = max(map(len, encoded))
    ids = np.array([row + [0] * (longest - len(row)) for row in encoded], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in encoded], dtype=np.int64)
    return ids, mask
