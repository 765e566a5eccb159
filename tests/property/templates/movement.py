"""Operators that move elements."""

import numpy as np

from property.draft import (
    FLOAT,
    INT64,
    NUMBERS,
    Draft,
    Refusal,
    broadcast,
    like,
)
from property.templates.registry import template

# Movement


@template(2)
def transpose(d: Draft) -> None:
    x = d.pick()
    order = list(range(x.rank))
    d.random.shuffle(order)
    if x.rank == 0 or d.chance(0.2):
        d.node("Transpose", [x], like(x, shape=x.shape[::-1]))
    else:
        d.node("Transpose", [x], like(x, shape=tuple(x.shape[i] for i in order)), perm=order)


@template(2)
def reshape(d: Draft) -> None:
    x = d.pick()
    if x.size == 0:
        raise Refusal
    shape, left = [], x.size
    while left > 1 and len(shape) < 4:
        divisors = [n for n in range(1, left + 1) if left % n == 0]
        shape.append(d.random.choice(divisors))
        left //= shape[-1]
    if left > 1 or d.chance(0.3):
        shape.append(left)
    written = list(shape)
    if written and d.chance(0.4):
        written[d.random.randrange(len(written))] = -1
    for i in range(min(len(written), x.rank)):
        if written[i] == x.shape[i] and d.chance(0.3):
            written[i] = 0
    d.node("Reshape", [x, d.ints(*written)], like(x, shape=tuple(shape)))


@template()
def flatten(d: Draft) -> None:
    x = d.pick(rank=(1, 5))
    axis = d.random.randint(0, x.rank)
    halves = (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))
    d.node("Flatten", [x], like(x, shape=halves), axis=axis)


@template()
def unsqueeze(d: Draft) -> None:
    x = d.pick(rank=(0, 4))
    count = d.random.randint(1, 2)
    axes = sorted(d.random.sample(range(x.rank + count), count))
    shape = list(x.shape)
    for axis in axes:
        shape.insert(axis, 1)
    written = [a - len(shape) if d.chance(0.3) else a for a in axes]
    d.node("Unsqueeze", [x, d.ints(*written)], like(x, shape=tuple(shape)))


@template()
def squeeze(d: Draft) -> None:
    x = d.pick(rank=(1, 5))
    ones = [i for i, e in enumerate(x.shape) if e == 1]
    if not ones:
        raise Refusal
    axes = d.random.sample(ones, d.random.randint(1, len(ones)))
    shape = tuple(e for i, e in enumerate(x.shape) if i not in axes)
    d.node("Squeeze", [x, d.ints(*axes)], like(x, shape=shape))


@template(1.5)
def concat(d: Draft) -> None:
    x = d.pick(rank=(1, 5))
    axis = d.axis(x)
    parts = [x]
    for _ in range(d.random.randint(0, 2)):
        shape = list(x.shape)
        shape[axis] = d.extent()
        same = [v for v in d.produced if v.dtype is x.dtype and matches(v.shape, tuple(shape), axis)]
        parts.append(d.random.choice(same) if same and d.chance(0.6) else d.fresh(x.dtype, tuple(shape)))
    d.random.shuffle(parts)
    shape = list(x.shape)
    shape[axis] = sum(p.shape[axis] for p in parts)
    grids = [p.grid for p in parts]
    made = like(x, shape=tuple(shape), bound=max(p.bound for p in parts), positive=False)
    d.node("Concat", parts, like(made, grid=None if None in grids else max(grids)), axis=axis)


def matches(a: tuple[int, ...], b: tuple[int, ...], but: int) -> bool:
    if len(a) != len(b):
        return False
    but %= len(a)
    return all(x == y for i, (x, y) in enumerate(zip(a, b, strict=True)) if i != but)


@template(2)
def cut(d: Draft) -> None:
    x = d.pick(rank=(1, 5))
    axes = d.random.sample(range(x.rank), d.random.randint(1, x.rank))
    shape, starts, ends, steps = list(x.shape), [], [], []
    for axis in axes:
        extent = x.shape[axis]
        start, end = d.random.randint(-extent - 1, extent + 1), d.random.randint(-extent - 1, extent + 1)
        step = d.random.choice([1, 1, 1, 2, 3, -1, -2])
        if d.chance(0.2):
            end = 2**62 if step > 0 else -(2**62)
        shape[axis] = len(range(*slice(start, end, step).indices(extent)))
        # Python reads an end before the beginning as ONNX does; a start before it differs for negative steps.
        if step < 0 and start < -extent:
            raise Refusal
        starts.append(start)
        ends.append(end)
        steps.append(step)
    written = [a - x.rank if d.chance(0.3) else a for a in axes]
    arguments = [d.ints(*starts), d.ints(*ends), d.ints(*written), d.ints(*steps)]
    d.node("Slice", [x, *arguments], like(x, shape=tuple(shape)))


@template()
def expand(d: Draft) -> None:
    x = d.pick(rank=(0, 4))
    target = tuple(d.random.choice([1, e]) if e != 1 else d.random.randint(1, 4) for e in x.shape)
    if d.chance(0.3):
        target = (d.random.randint(1, 3), *target)
    d.node("Expand", [x, d.ints(*target)], like(x, shape=broadcast(x.shape, target)))


@template()
def tile(d: Draft) -> None:
    x = d.pick(rank=(1, 4))
    repeats = [d.random.choice([1, 1, 2, 3]) for _ in x.shape]
    shape = tuple(e * r for e, r in zip(x.shape, repeats, strict=True))
    d.node("Tile", [x, d.ints(*repeats)], like(x, shape=shape))


@template(1.5)
def pad(d: Draft) -> None:
    x = d.pick(NUMBERS, rank=(1, 4), nonempty=True)
    mode = d.random.choice(["constant", "constant", "edge", "reflect"])
    most = [max(0, e - 1) if mode == "reflect" else 3 for e in x.shape]
    before, after = ([d.random.randint(0, m) for m in most] for _ in range(2))
    if mode == "constant" and d.chance(0.3):
        before[0] = -1 if x.shape[0] > 1 else 0
    shape = tuple(b + e + a for b, e, a in zip(before, x.shape, after, strict=True))
    value = [d.given(np.array(2, dtype=x.dtype))] if mode == "constant" and d.chance(0.6) else []
    d.node("Pad", [x, d.ints(*before, *after), *value], like(x, shape=shape, bound=max(2, x.bound), positive=False),
           mode=mode)  # fmt: skip


@template()
def split(d: Draft) -> None:
    x = d.pick(rank=(1, 4))
    axis = d.axis(x)
    extent = x.shape[axis]
    first = d.random.randint(0, extent)
    parts = [first, extent - first]
    shapes = [tuple(p if i == axis % x.rank else e for i, e in enumerate(x.shape)) for p in parts]
    d.node("Split", [x, d.ints(*parts)], *(like(x, shape=s) for s in shapes), axis=axis)


@template()
def triangle(d: Draft) -> None:
    if d.opset < 14:
        raise Refusal
    x = d.pick((FLOAT, INT64), rank=(2, 4))
    diagonal = [d.given(np.array(d.random.randint(-3, 3), dtype=np.int64))] if d.chance(0.6) else []
    d.node("Trilu", [x, *diagonal], like(x, positive=False), upper=d.random.randint(0, 1))


@template(0.5)
def blocks(d: Draft) -> None:
    n, c, h, w = 1 + d.random.randrange(2), d.random.randint(1, 3), d.random.randint(1, 4), d.random.randint(1, 4)
    if d.chance(0.5):
        x = d.fresh(FLOAT, (n, c * 4, h, w))
        mode = d.random.choice(["DCR", "CRD"])
        d.node("DepthToSpace", [x], like(x, shape=(n, c, h * 2, w * 2)), blocksize=2, mode=mode)
    else:
        x = d.fresh(FLOAT, (n, c, h * 2, w * 2))
        d.node("SpaceToDepth", [x], like(x, shape=(n, c * 4, h, w)), blocksize=2)
