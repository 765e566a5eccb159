"""BERT's forward pass and sentence-transformers' mean pooling in plain numpy and float64.

Written from the paper and from the weights' names, not from `examples/quickstart/make_model.py`: two descriptions of
one model that have to agree.
"""

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])


def last_hidden_state(
    weights: dict[str, np.ndarray], config: dict, input_ids: np.ndarray, attention_mask: np.ndarray
) -> np.ndarray:
    """[batch, sequence] token ids → [batch, sequence, hidden]; a single segment (token types all 0)."""
    w = {name: value.astype(np.float64) for name, value in weights.items() if name != "embeddings.position_ids"}
    eps = config["layer_norm_eps"]
    heads = config["num_attention_heads"]
    batch, sequence = input_ids.shape

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return np.einsum("bsi,oi->bso", x, w[f"{name}.weight"]) + w[f"{name}.bias"]

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(batch, sequence, heads, -1)

    x = w["embeddings.word_embeddings.weight"][input_ids]
    x = x + w["embeddings.position_embeddings.weight"][None, :sequence]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        query, key, value = (split(dense(x, f"{name}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = np.einsum("bqhw,bkhw->bhqk", query, key) / math.sqrt(query.shape[-1])
        scores = np.where(attention_mask[:, None, None, :] == 1, scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("bhqk,bkhw->bqhw", shares, value).reshape(batch, sequence, -1)
        x = norm(x + dense(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        wide = dense(x, f"{name}.intermediate.dense")
        wide = wide * 0.5 * (1.0 + _erf(wide / math.sqrt(2.0)))
        x = norm(x + dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    return x


def embeddings(hidden: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """The mean over the tokens that are there, scaled to length 1."""
    mask = attention_mask[..., None].astype(hidden.dtype)
    mean = (hidden * mask).sum(1) / mask.sum(1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)
