"""Reductions and normalisations."""

import numpy as np

from property.draft import (
    FLOAT,
    INT32,
    INT64,
    NUMBERS,
    Draft,
    Refusal,
    Tensor,
    like,
    rounded,
)
from property.templates.registry import template

# Reductions and normalisations


def reduced(shape: tuple[int, ...], axes: list[int], keep: int) -> tuple[int, ...]:
    axes = [a % len(shape) for a in axes]
    kept = [(1 if keep else None) if i in axes else e for i, e in enumerate(shape)]
    return tuple(e for e in kept if e is not None)


@template(3)
def reduction(d: Draft) -> None:
    name = d.random.choice([
        "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
        "ReduceLogSumExp",
    ])  # fmt: skip
    kinds = NUMBERS if name in ("ReduceSum", "ReduceMax", "ReduceMin") else (FLOAT,)
    x = d.pick(kinds, rank=(1, 4), bound=30, nonempty=True)
    axes = d.random.sample(range(x.rank), d.random.randint(1, x.rank))
    axes = [a - x.rank if d.chance(0.3) else a for a in axes]
    keep = d.random.randint(0, 1)
    count = int(np.prod([x.shape[a] for a in axes]))
    if name == "ReduceProd" and count > 12:
        raise Refusal
    bound = x.bound**count if name == "ReduceProd" else max(1, count) * max(x.bound, x.bound**2)
    shape = reduced(x.shape, axes, keep)
    made = (
        like(x, shape=shape, positive=False) if name in ("ReduceMax", "ReduceMin") else rounded(shape, bound, x.dtype)
    )
    if name == "ReduceSum" or d.opset >= 18:
        d.node(name, [x, d.ints(*axes)], made, keepdims=keep)
    else:
        d.node(name, [x], made, keepdims=keep, axes=axes)


@template(2)
def softmax(d: Draft) -> None:
    x = d.pick((FLOAT,), rank=(1, 4), bound=60)
    name = d.random.choice(["Softmax", "LogSoftmax"])
    d.node(name, [x], rounded(x.shape, 200), axis=d.axis(x))


@template(1.5)
def layer_norm(d: Draft) -> None:
    if d.opset < 17:
        raise Refusal
    x = d.pick((FLOAT,), rank=(1, 4), exact=True, nonempty=True)
    axis = d.random.randrange(x.rank)
    scale = d.fresh(FLOAT, x.shape[axis:], constant=True)
    bias = [d.fresh(FLOAT, x.shape[axis:], constant=True)] if d.chance(0.7) else []
    written = axis - x.rank if d.chance(0.5) else axis
    d.node("LayerNormalization", [x, scale, *bias], rounded(x.shape, 4 * x.size + 4), axis=written)


@template()
def batch_norm(d: Draft) -> None:
    x = d.pick((FLOAT,), rank=(2, 4), exact=True, nonempty=True)
    channels = (x.shape[1],)
    scale, bias, mean = (d.fresh(FLOAT, channels, constant=True) for _ in range(3))
    variance = d.fresh(FLOAT, channels, constant=True, low=1)
    d.node("BatchNormalization", [x, scale, bias, mean, variance], rounded(x.shape, 16 * x.bound + 64))


@template(0.7)
def instance_norm(d: Draft) -> None:
    x = d.pick((FLOAT,), rank=(3, 4), exact=True, nonempty=True)
    scale, bias = (d.fresh(FLOAT, (x.shape[1],), constant=True) for _ in range(2))
    d.node("InstanceNormalization", [x, scale, bias], rounded(x.shape, 4 * x.size + 4))


@template(0.7)
def cumulative(d: Draft) -> None:
    x = d.pick((FLOAT, INT32, INT64), rank=(1, 3), bound=1e3)
    axis = d.given(np.array(d.axis(x), dtype=np.int64))
    made = rounded(x.shape, x.bound * max(1, *x.shape), x.dtype)
    d.node("CumSum", [x, axis], made, exclusive=d.random.randint(0, 1), reverse=d.random.randint(0, 1))


@template()
def arg(d: Draft) -> None:
    x = d.pick((FLOAT, INT32), rank=(1, 4), exact=True, nonempty=True)
    axis, keep = d.axis(x), d.random.randint(0, 1)
    d.node(d.random.choice(["ArgMax", "ArgMin"]), [x], Tensor("", INT64, reduced(x.shape, [axis], keep), max(x.shape)),
           axis=axis, keepdims=keep, select_last_index=d.random.randint(0, 1))  # fmt: skip
