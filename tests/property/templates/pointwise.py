"""Functions of one operand, and of two or more that broadcast."""

from collections.abc import Callable

import numpy as np

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
    like,
    rounded,
)
from property.templates.registry import template

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
