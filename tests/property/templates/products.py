"""Matrix products, convolutions, pools, resizing."""

import numpy as np

from property.draft import (
    FLOAT,
    Draft,
    Refusal,
    Tensor,
    broadcasts,
    rounded,
)
from property.templates.registry import template

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
