"""How each operator is drawn: operands that fit it, attributes in all their forms, and what is known of its results."""

from collections.abc import Callable

import numpy as np
from onnx import numpy_helper

from property.draft import (
    ALL,
    BOOL,
    FLOAT,
    INT32,
    INT64,
    KINDS,
    NUMBERS,
    Draft,
    Refusal,
    Tensor,
    broadcast,
    broadcasts,
    like,
    rounded,
)

Template = Callable[[Draft], None]
TEMPLATES: list[tuple[float, Template]] = []


def template(weight: float = 1.0) -> Callable[[Template], Template]:
    def register(drawn: Template) -> Template:
        TEMPLATES.append((weight, drawn))
        return drawn

    return register


# One operand

# Operator → the largest result for operands up to a bound.
SMOOTH: dict[str, Callable[[float], float]] = {
    "Abs": lambda b: b, "Neg": lambda b: b, "Relu": lambda b: b, "Erf": lambda _: 1, "Tanh": lambda _: 1,
    "Sigmoid": lambda _: 1, "LeakyRelu": lambda b: b, "Elu": lambda b: b + 1, "Selu": lambda b: 2 * b + 2,
    "HardSigmoid": lambda _: 1, "HardSwish": lambda b: b, "Softplus": lambda b: b + 1, "Softsign": lambda _: 1,
    "Sin": lambda _: 1, "Cos": lambda _: 1, "Atan": lambda _: 2, "Asinh": lambda b: b, "Celu": lambda b: b + 1,
    "Exp": np.exp, "Sinh": np.exp, "Cosh": np.exp,
}  # fmt: skip
NEWER = {"Gelu": 20, "Mish": 18, "HardSwish": 14}


@template(4)
def smooth(d: Draft) -> None:
    name = d.random.choice([n for n in (*SMOOTH, *NEWER) if d.opset >= NEWER.get(n, 0)])
    x = d.pick((FLOAT,), bound=12 if name in ("Exp", "Sinh", "Cosh") else 1e4)
    bound = SMOOTH.get(name, lambda b: b)(x.bound)
    attributes = {}
    if name in ("LeakyRelu", "Elu", "Celu") and d.chance(0.5):
        attributes = {"alpha": 0.5}
    if name in ("Abs", "Neg", "Relu"):
        d.node(name, [x], like(x, positive=False))
    else:
        d.node(name, [x], rounded(x.shape, float(bound)), **attributes)


@template()
def with_a_domain(d: Draft) -> None:
    name = d.random.choice(["Sqrt", "Log", "Reciprocal", "Acosh"])
    x = d.pick((FLOAT,), exact=True, positive=True)
    if name == "Acosh":
        shifted = d.fresh(FLOAT, (), low=4, high=4, constant=True)
        d.node("Add", [x, shifted], like(x, bound=x.bound + 1, positive=True))
        x = d.produced[-1]
    d.node(name, [x], rounded(x.shape, x.bound + 4))


@template()
def jumping(d: Draft) -> None:
    name = d.random.choice(["Floor", "Ceil", "Round", "Sign", "ThresholdedRelu", "Shrink"])
    x = d.pick((FLOAT,), exact=True)
    d.node(name, [x], like(x, bound=x.bound + 1, positive=False))


@template()
def integers(d: Draft) -> None:
    x = d.pick((INT32, INT64))
    name = d.random.choice(["Abs", "Neg", "Sign", *(["BitwiseNot"] if d.opset >= 18 else [])])
    d.node(name, [x], like(x, bound=x.bound + 1))


@template()
def logic(d: Draft) -> None:
    x = d.pick((BOOL,))
    if d.chance(0.3):
        d.node("Not", [x], like(x))
    else:
        y = d.partner(x)
        d.node(d.random.choice(["And", "Or", "Xor"]), [x, y], like(x, shape=broadcast(x.shape, y.shape)))


@template(2)
def cast(d: Draft) -> None:
    x = d.pick(ALL, exact=True, bound=1e6)
    to = d.random.choice([t for t in ALL if t is not x.dtype])
    bound = 1 if to is BOOL else x.bound
    d.node("Cast", [x], Tensor("", to, x.shape, bound, 0 if x.dtype is not FLOAT or to is not FLOAT else x.grid),
           to=KINDS[to])  # fmt: skip


@template()
def clip(d: Draft) -> None:
    x = d.pick(NUMBERS)
    low, high = (d.given(np.array(v, dtype=x.dtype)) for v in (-2, 3))
    forms = [[low, high], [low], ["", high], []]
    d.node("Clip", [x, *d.random.choice(forms)], like(x, bound=max(x.bound, 3.0), positive=False))


@template(0.5)
def unchanged(d: Draft) -> None:
    x = d.pick()
    if x.dtype is FLOAT and d.chance(0.3):
        d.node("Dropout", [x], like(x))
    else:
        d.node("Identity", [x], like(x))


# Two operands, broadcast


def merged(a: Tensor, b: Tensor, bound: float, grid: int | None) -> Tensor:
    shape = broadcast(a.shape, b.shape)
    made = Tensor("", a.dtype, shape, bound, grid)
    return made if made.exact else rounded(shape, bound, a.dtype)


@template(6)
def arithmetic(d: Draft) -> None:
    x = d.pick(NUMBERS)
    y = d.partner(x)
    if d.chance(0.5):
        x, y = y, x
    name = d.random.choice(["Add", "Sub", "Mul", "Max", "Min"])
    known = None if x.grid is None or y.grid is None else max(x.grid, y.grid)
    bound = max(x.bound, y.bound)
    if name in ("Add", "Sub"):
        bound = x.bound + y.bound
    elif name == "Mul":
        bound = x.bound * y.bound
        known = None if x.grid is None or y.grid is None else x.grid + y.grid
    d.node(name, [x, y], merged(x, y, bound, known))


@template(1.5)
def division(d: Draft) -> None:
    x = d.pick(NUMBERS)
    y = d.partner(x, nonzero=True)
    d.node("Div", [x, y], merged(x, y, x.bound * 4, None if x.dtype is FLOAT else 0))


@template(0.7)
def remainder(d: Draft) -> None:
    x = d.pick(NUMBERS, exact=True)
    y = d.partner(x, nonzero=True)
    fmod = 1 if x.dtype is FLOAT else d.random.randint(0, 1)
    d.node("Mod", [x, y], merged(x, y, y.bound, 2 if x.dtype is FLOAT else 0), fmod=fmod)


@template()
def power(d: Draft) -> None:
    x = d.pick((FLOAT,), exact=True, positive=True, bound=16)
    if d.chance(0.6):
        exponent = d.given(np.array(d.random.choice([0.5, 2, 3, -1, 1, 0]), dtype=np.float32))
        d.node("Pow", [x, exponent], rounded(x.shape, x.bound**3 + 16))
    else:
        y = d.partner(x, low=-8, high=8)
        d.node("Pow", [x, y], rounded(broadcast(x.shape, y.shape), x.bound**2 + 16))


@template(1.5)
def comparison(d: Draft) -> None:
    name = d.random.choice(["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"])
    x = d.pick((*NUMBERS, BOOL) if name == "Equal" else NUMBERS, exact=True)
    y = d.partner(x, low=-16)
    d.node(name, [x, y], Tensor("", BOOL, broadcast(x.shape, y.shape), 1))


@template(0.7)
def prelu(d: Draft) -> None:
    x = d.pick((FLOAT,), bound=1e3)
    shape = tuple(1 if d.chance(0.4) else e for e in x.shape)
    slope = d.fresh(FLOAT, shape, constant=True)
    d.node("PRelu", [x, slope], rounded(x.shape, x.bound * 4))


@template(0.7)
def several(d: Draft) -> None:
    x = d.pick((FLOAT,))
    others = [d.partner(x) for _ in range(d.random.randint(0, 2))]
    operands = [x, *others]
    shape = broadcast(*(o.shape for o in operands))
    name = d.random.choice(["Sum", "Mean", "Max", "Min"])
    d.node(name, operands, rounded(shape, sum(o.bound for o in operands)))


@template(1.5)
def where(d: Draft) -> None:
    x = d.pick()
    y = d.partner(x)
    shape = broadcast(x.shape, y.shape)
    condition = d.partner(Tensor("", BOOL, shape, 1), constant=None)
    known = None if x.grid is None or y.grid is None else max(x.grid, y.grid)
    made = merged(x, y, max(x.bound, y.bound), known)
    d.node("Where", [condition, x, y], like(made, shape=broadcast(shape, condition.shape)))


@template(0.5)
def bits(d: Draft) -> None:
    if d.opset < 18:
        raise Refusal
    x = d.pick((INT32, INT64))
    y = d.partner(x)
    name = d.random.choice(["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
    d.node(name, [x, y], like(x, shape=broadcast(x.shape, y.shape), bound=2 * max(x.bound, y.bound) + 1))


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


@template()
def arg(d: Draft) -> None:
    x = d.pick((FLOAT, INT32), rank=(1, 4), exact=True, nonempty=True)
    axis, keep = d.axis(x), d.random.randint(0, 1)
    d.node(d.random.choice(["ArgMax", "ArgMin"]), [x], Tensor("", INT64, reduced(x.shape, [axis], keep), max(x.shape)),
           axis=axis, keepdims=keep, select_last_index=d.random.randint(0, 1))  # fmt: skip


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


# Products


@template(3)
def matmul(d: Draft) -> None:
    x = d.pick((FLOAT,), rank=(1, 4), bound=1e3)
    k, n = x.shape[-1], d.extent()
    # An empty sum against a vector: ONNX Runtime's CPU provider leaves its output as it found the memory.
    form = d.random.choice(["matrix", "matrix", "batch", "vector"] if k else ["matrix"])
    if form == "vector":
        y = d.fresh(FLOAT, (k,))
        shape = x.shape[:-1]
    else:
        batch = x.shape[:-2] if form == "batch" else ()
        batch = tuple(1 if d.chance(0.3) else e for e in batch)
        y = d.fresh(FLOAT, (*batch, k, n))
        shape = (*x.shape[:-1], n)
    d.node("MatMul", [x, y], rounded(shape, max(1, k) * x.bound * y.bound))


@template(2)
def gemm(d: Draft) -> None:
    x = d.pick((FLOAT,), rank=(2, 2), bound=1e3)
    turn_a, turn_b = d.random.randint(0, 1), d.random.randint(0, 1)
    m, k = x.shape[::-1] if turn_a else x.shape
    n = d.extent()
    y = d.fresh(FLOAT, (n, k) if turn_b else (k, n))
    shapes = [(n,), (1, n), (m, n), (m, 1), (1,), ()]
    c = [d.fresh(FLOAT, d.random.choice([s for s in shapes if broadcasts(s, (m, n))]))] if d.chance(0.7) else []
    # Where there is nothing to multiply, ONNX Runtime's CPU provider forgets beta.
    beta = d.random.choice([1.0, 2.0]) if k else 1.0
    d.node("Gemm", [x, y, *c], rounded((m, n), 2 * (max(1, k) * x.bound * y.bound + 4)), transA=turn_a, transB=turn_b,
           alpha=d.random.choice([1.0, 0.5]), beta=beta)  # fmt: skip


@template(2.5)
def convolution(d: Draft) -> None:
    spatial = d.random.choice([1, 2, 2, 2])
    groups = d.random.choice([1, 1, 2, 3])
    channels, out = groups * d.random.randint(1, 4), groups * d.random.randint(1, 4)
    if d.chance(0.2):
        groups = out = channels
    image = tuple(d.random.randint(3, 9) for _ in range(spatial))
    kernel = tuple(d.random.randint(1, 3) for _ in range(spatial))
    strides = [d.random.randint(1, 2) for _ in range(spatial)]
    dilations = [d.random.choice([1, 1, 2]) for _ in range(spatial)]
    pads = [d.random.randint(0, 2) for _ in range(2 * spatial)]
    x = reused(d, (d.random.randint(1, 3), channels, *image))
    weight = d.fresh(FLOAT, (out, channels // groups, *kernel), constant=d.chance(0.8))
    bias = [d.fresh(FLOAT, (out,), constant=True)] if d.chance(0.6) else []
    attributes = {"strides": strides, "dilations": dilations, "group": groups, "kernel_shape": list(kernel)}
    if d.chance(0.2):
        attributes["auto_pad"] = d.random.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
        attributes["dilations"] = dilations = [1] * spatial
    else:
        attributes["pads"] = pads
    size = tuple(window(x.shape[2 + i], kernel[i], strides[i], dilations[i], pads[i], pads[spatial + i],
                 attributes.get("auto_pad")) for i in range(spatial))  # fmt: skip
    bound = x.bound * weight.bound * int(np.prod(kernel)) * channels + 4
    d.node("Conv", [x, weight, *bias], rounded((x.shape[0], out, *size), bound), **attributes)


def reused(d: Draft, shape: tuple[int, ...]) -> Tensor:
    """An image: a value of the graph with at least as much room, or a new one."""
    fitting = [v for v in d.produced if v.dtype is FLOAT and v.bound < 1e4 and v.rank == len(shape)
               and v.shape[1] == shape[1] and all(e >= 3 for e in v.shape[2:]) and v.size]  # fmt: skip
    return d.random.choice(fitting) if fitting and d.chance(0.7) else d.fresh(FLOAT, shape)


def window(extent: int, kernel: int, stride: int, dilation: int, before: int, after: int, auto: str | None) -> int:
    reach = dilation * (kernel - 1) + 1
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return -(-extent // stride)
    if auto == "VALID":
        before = after = 0
    if extent + before + after < reach:
        raise Refusal
    return (extent + before + after - reach) // stride + 1


@template(1.5)
def pooling(d: Draft) -> None:
    spatial = d.random.choice([1, 2, 2])
    x = reused(d, (d.random.randint(1, 2), d.random.randint(1, 4), *(d.random.randint(3, 9) for _ in range(spatial))))
    if x.rank - 2 != spatial:
        raise Refusal
    name = d.random.choice(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
    if name.startswith("Global"):
        made = rounded((*x.shape[:2], *([1] * spatial)), x.bound)
        d.node(name, [x], made)
        return
    kernel = [d.random.randint(1, 3) for _ in range(spatial)]
    strides = [d.random.randint(1, 2) for _ in range(spatial)]
    pads = [d.random.randint(0, k - 1) for k in kernel] * 2
    size = tuple(window(x.shape[2 + i], kernel[i], strides[i], 1, pads[i], pads[i], None) for i in range(spatial))
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if name == "AveragePool":
        attributes["count_include_pad"] = d.random.randint(0, 1)
    d.node(name, [x], rounded((*x.shape[:2], *size), x.bound), **attributes)


@template(0.7)
def resize(d: Draft) -> None:
    x = reused(d, (1, d.random.randint(1, 3), d.random.randint(3, 6), d.random.randint(3, 6)))
    if x.rank != 4:
        raise Refusal
    target = [*x.shape[:2], *(d.random.randint(2, 12) for _ in range(2))]
    mode = d.random.choice(["nearest", "linear"])
    way = d.random.choice(["half_pixel", "asymmetric", "align_corners"])
    # Which of two equally near pixels is taken depends on how the position is rounded.
    attributes = {"nearest_mode": "floor"} if mode == "nearest" else {}
    if mode == "nearest":
        way, target = "asymmetric", [*x.shape[:2], *(2 * e for e in x.shape[2:])]
    d.node("Resize", [x, "", "", d.ints(*target)], rounded(tuple(target), x.bound), mode=mode,
           coordinate_transformation_mode=way, **attributes)  # fmt: skip


# Patterns that fusion looks for


@template(1.5)
def gelu_written_out(d: Draft) -> None:
    x = d.pick((FLOAT,), bound=100)
    root, one, half = (d.given(np.array(v, dtype=np.float32)) for v in (np.sqrt(2), 1, 0.5))
    d.node("Div", [x, root], rounded(x.shape, x.bound))
    d.node("Erf", [d.produced[-1]], rounded(x.shape, 1))
    d.node("Add", [d.produced[-1], one], rounded(x.shape, 2))
    d.node("Mul", [x, d.produced[-1]], rounded(x.shape, 2 * x.bound))
    d.node("Mul", [d.produced[-1], half], rounded(x.shape, x.bound))


@template(1.5)
def layer_norm_written_out(d: Draft) -> None:
    x = d.pick((FLOAT,), rank=(2, 4), exact=True, nonempty=True)
    axes = [-1]
    kept = (*x.shape[:-1], 1)

    def mean(of: Tensor, bound: float) -> Tensor:
        if d.opset >= 18:
            d.node("ReduceMean", [of, d.ints(*axes)], rounded(kept, bound), keepdims=1)
        else:
            d.node("ReduceMean", [of], rounded(kept, bound), keepdims=1, axes=axes)
        return d.produced[-1]

    def step(name: str, operands: list[Tensor | str], shape: tuple[int, ...], bound: float) -> Tensor:
        d.node(name, operands, rounded(shape, bound))
        return d.produced[-1]

    centred = step("Sub", [x, mean(x, x.bound)], x.shape, 2 * x.bound)
    squared = step("Pow", [centred, d.given(np.array(2, dtype=np.float32))], x.shape, 4 * x.bound**2)
    epsilon = d.given(np.array(1e-5, dtype=np.float32))
    shifted = step("Add", [mean(squared, 4 * x.bound**2), epsilon], kept, 4 * x.bound**2 + 1)
    deviation = step("Sqrt", [shifted], kept, 2 * x.bound + 1)
    normal = step("Div", [centred, deviation], x.shape, x.size)
    scale = d.fresh(FLOAT, (x.shape[-1],), constant=True)
    step("Mul", [normal, scale], x.shape, 4 * x.size)
