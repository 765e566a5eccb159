"""Operators that choose elements by index, and arithmetic on shapes."""

import numpy as np
from onnx import numpy_helper

from property.draft import (
    FLOAT,
    INT32,
    INT64,
    Draft,
    Refusal,
    Tensor,
    broadcast,
    like,
)
from property.templates.registry import template

# Indices


def indices(d: Draft, shape: tuple[int, ...], length: int) -> Tensor:
    if length == 0:
        raise Refusal
    dtype = d.random.choice([INT64, INT64, INT32])
    return d.fresh(dtype, shape, low=-length, high=length - 1)


@template(2)
def gather(d: Draft) -> None:
    x = d.pick(rank=(1, 4))
    axis = d.axis(x)
    at = axis % x.rank
    i = indices(d, d.shape(d.random.randint(0, 2)), x.shape[at])
    d.node("Gather", [x, i], like(x, shape=x.shape[:at] + i.shape + x.shape[at + 1 :]), axis=axis)


@template()
def gather_elements(d: Draft) -> None:
    x = d.pick(rank=(1, 4), nonempty=True)
    axis = d.axis(x)
    shape = tuple(d.random.randint(1, e) for e in x.shape)
    d.node("GatherElements", [x, indices(d, shape, x.shape[axis])], like(x, shape=shape), axis=axis)


@template()
def gather_nd(d: Draft) -> None:
    x = d.pick(rank=(1, 4), nonempty=True)
    depth = d.random.randint(1, x.rank)
    count = d.random.randint(1, 4)
    columns = [d.data.integers(-e, e, (count,)) for e in x.shape[:depth]]
    i = d.given(np.stack(columns, axis=1).astype(np.int64))
    d.node("GatherND", [x, i], like(x, shape=(count, *x.shape[depth:])))


@template()
def scatter_elements(d: Draft) -> None:
    x = d.pick((FLOAT, INT32, INT64), rank=(1, 3), nonempty=True)
    axis = d.axis(x)
    at = axis % x.rank
    # No place twice: which update wins is nobody's promise.
    shape = [d.random.randint(1, e) for e in x.shape]
    places = np.argsort(d.data.random((*shape[:at], x.shape[at], *shape[at + 1 :])), axis=at)
    places = np.take(places, range(shape[at]), axis=at).astype(np.int64)
    updates = d.fresh(x.dtype, tuple(shape))
    d.node("ScatterElements", [x, d.given(places), updates], like(x, bound=max(x.bound, updates.bound), positive=False,
           grid=None if x.grid is None else max(x.grid, updates.grid)), axis=axis)  # fmt: skip


@template(0.7)
def scatter_nd(d: Draft) -> None:
    x = d.pick((FLOAT, INT64), rank=(1, 3), nonempty=True)
    count = d.random.randint(1, x.shape[0])
    rows = d.data.permutation(x.shape[0])[:count].reshape(count, 1).astype(np.int64)
    updates = d.fresh(x.dtype, (count, *x.shape[1:]))
    d.node("ScatterND", [x, d.given(rows), updates], like(x, bound=max(x.bound, updates.bound), positive=False,
           grid=None if x.grid is None else max(x.grid, updates.grid)))  # fmt: skip


@template(0.7)
def one_hot(d: Draft) -> None:
    depth = d.random.randint(1, 6)
    i = d.fresh(INT64, d.shape(d.random.randint(1, 3)), low=-depth - 1, high=depth)
    values = d.given(np.array([0.25, 4], dtype=np.float32))
    axis = d.random.randint(-i.rank - 1, i.rank)
    at = axis % (i.rank + 1)
    shape = (*i.shape[:at], depth, *i.shape[at:])
    d.node("OneHot", [i, d.given(np.array(depth, dtype=np.int64)), values], Tensor("", FLOAT, shape, 4, 2), axis=axis)


@template(0.7)
def top_k(d: Draft) -> None:
    x = d.pick((FLOAT,), rank=(1, 3), exact=True, nonempty=True)
    axis = d.axis(x)
    k = d.random.randint(1, x.shape[axis])
    shape = tuple(k if i == axis % x.rank else e for i, e in enumerate(x.shape))
    found = Tensor("", INT64, shape, max(x.shape))
    d.node("TopK", [x, d.ints(k)], like(x, shape=shape), found, axis=axis, largest=d.random.randint(0, 1))


# Shapes


@template(1.5)
def shape_arithmetic(d: Draft) -> None:
    """The way exporters write a reshape that keeps the batch: Shape, Gather, Concat, Reshape."""
    x = d.pick(rank=(2, 4), nonempty=True)
    d.node("Shape", [x], Tensor("", INT64, (x.rank,), max(x.shape)))
    shape = d.produced[-1]
    d.node("Gather", [shape, d.ints(0)], Tensor("", INT64, (1,), max(x.shape)), axis=0)
    kept = d.produced[-1]
    d.node("Concat", [kept, d.ints(-1)], Tensor("", INT64, (2,), max(x.shape)), axis=0)
    target = d.produced[-1]
    d.node("Reshape", [x, target], like(x, shape=(x.shape[0], x.size // x.shape[0])))


@template(0.7)
def filled(d: Draft) -> None:
    x = d.pick(rank=(0, 3))
    d.node("Shape", [x], Tensor("", INT64, (x.rank,), max(x.shape, default=0)))
    shape = d.produced[-1]
    if d.chance(0.5):
        value = numpy_helper.from_array(np.array([1.5], dtype=np.float32))
        d.node("ConstantOfShape", [shape], Tensor("", FLOAT, x.shape, 1.5, 1), value=value)
    else:
        one = d.fresh(FLOAT, (1,))
        d.node("Expand", [one, shape], like(one, shape=broadcast((1,), x.shape)))


@template(0.4)
def size(d: Draft) -> None:
    x = d.pick()
    d.node("Size", [x], Tensor("", INT64, (), x.size))
