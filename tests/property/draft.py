"""A graph while it is being drawn: values with what is known of them, and the means to add nodes.

A comparison of two implementations is only as good as the questions it asks. Floor of 2.9999999 and of 3.0000001 are
both right answers to slightly different questions, so each value carries what is known of it: whether it is exactly the
same number everywhere (`grid`), and how large it can be (`bound`). Operators that jump are only given exact values.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT32, INT64, BOOL = np.float32, np.int32, np.int64, np.bool_
KINDS = {FLOAT: TensorProto.FLOAT, INT32: TensorProto.INT32, INT64: TensorProto.INT64, BOOL: TensorProto.BOOL}
NUMBERS = (FLOAT, INT32, INT64)
ALL = (FLOAT, INT32, INT64, BOOL)

# Where int32 and int64 begin to wrap, with room for one more addition.
LIMITS = {INT32: 2.0**30, INT64: 2.0**61, BOOL: 2.0}
# float32 holds integers up to here; a multiple of 2^-grid is exact while bound · 2^grid stays below.
MANTISSA = 2.0**24


@dataclass(frozen=True)
class Tensor:
    """A value of the graph."""

    name: str
    dtype: type
    shape: tuple[int, ...]
    # No element is larger in magnitude.
    bound: float
    # Every element is a multiple of 2^-grid and computed without rounding; None once anything was rounded.
    grid: int | None = 0
    # Every element is above zero.
    positive: bool = False

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def exact(self) -> bool:
        return self.dtype is not FLOAT or (self.grid is not None and self.bound * 2.0**self.grid < MANTISSA)


class Refusal(Exception):
    """A template does not fit what has been drawn so far: another one is tried."""


class Draft:
    """Draws one graph from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.data = np.random.default_rng(seed)
        self.opset = self.random.choice([13, 17, 18, 21, 22])
        # Symbolic extents make the provider plan at the first run, static ones let it plan in advance.
        self.dynamic = self.random.random() < 0.5
        self.values: list[Tensor] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.feeds: dict[str, np.ndarray] = {}
        self.read: set[str] = set()
        self.produced: list[Tensor] = []

    # Chance

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def extent(self) -> int:
        return self.random.choices([0, 1, 2, 3, 4, 5, 7, 8, 13, 16, 33], [1, 8, 8, 8, 6, 4, 3, 3, 2, 2, 1])[0]

    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        rank = self.random.choices(range(6), [2, 4, 6, 6, 4, 1])[0] if rank is None else rank
        return tuple(self.extent() for _ in range(rank))

    def axis(self, of: Tensor) -> int:
        """A random axis, counted from either end."""
        if of.rank == 0:
            raise Refusal
        axis = self.random.randrange(of.rank)
        return axis - of.rank if self.chance(0.3) else axis

    # Values

    def fresh(
        self,
        dtype: type,
        shape: tuple[int, ...],
        *,
        constant: bool | None = None,
        low: int = -16,
        high: int = 16,
        nonzero: bool = False,
    ) -> Tensor:
        """A new input or constant; elements are integers, or quarters for floats, so that simple sums are exact."""
        grid = 2 if dtype is FLOAT else 0
        if dtype is BOOL:
            array = self.data.random(shape) < 0.5
        else:
            numbers = self.data.integers(low, high + 1, shape)
            if nonzero:
                numbers = np.where(numbers == 0, 3, numbers)
            array = np.asarray(numbers / 2**grid if grid else numbers, dtype=dtype)
        array = np.asarray(array, dtype=dtype)
        constant = self.chance(0.35) if constant is None else constant
        tensor = Tensor(
            f"{'c' if constant else 'x'}{len(self.values)}",
            dtype,
            shape,
            bound=max(abs(low), abs(high)) / 2**grid,
            grid=grid,
            positive=low > 0,
        )
        if constant:
            self.constants.append(numpy_helper.from_array(array, tensor.name))
        else:
            dims = [f"{tensor.name}_{i}" if self.dynamic and self.chance(0.6) else d for i, d in enumerate(shape)]
            self.inputs.append(helper.make_tensor_value_info(tensor.name, KINDS[dtype], dims))
            self.feeds[tensor.name] = array
        self.values.append(tensor)
        return tensor

    def given(self, array: np.ndarray) -> str:
        """A constant argument, such as a shape or a list of axes."""
        name = f"a{len(self.values)}_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *numbers: int) -> str:
        return self.given(np.array(numbers, dtype=np.int64))

    def pick(
        self,
        dtypes: tuple[type, ...] = ALL,
        *,
        rank: tuple[int, int] = (0, 5),
        exact: bool = False,
        positive: bool = False,
        bound: float = 1e6,
        nonempty: bool = False,
    ) -> Tensor:
        """An operand: rather a value that another node has made, or else a new one."""

        def fits(value: Tensor) -> bool:
            return (
                value.dtype in dtypes
                and rank[0] <= value.rank <= rank[1]
                and (value.exact or not exact)
                and (value.positive or not positive)
                and value.bound <= bound
                and (value.size > 0 or not nonempty)
            )

        fitting = [value for value in self.produced if fits(value)]
        if fitting and self.chance(0.85):
            return fitting[-1] if self.chance(0.6) else self.random.choice(fitting)
        dtype = self.random.choices(dtypes, [4 if d is FLOAT else 1 for d in dtypes])[0]
        shape = self.shape(self.random.randint(*rank) if rank != (0, 5) else None)
        if nonempty:
            shape = tuple(max(1, extent) for extent in shape)
        return self.fresh(dtype, shape, low=1 if positive else -16, constant=False if self.chance(0.9) else None)

    def partner(self, of: Tensor, **choices: object) -> Tensor:
        """An operand that broadcasts with another one: of the same type, with extents of 1 and missing axes."""
        fitting = [
            v
            for v in self.produced
            if v.dtype is of.dtype and v != of and broadcasts(v.shape, of.shape) and (v.exact or not choices)
        ]
        if fitting and not choices and self.chance(0.5):
            return self.random.choice(fitting)
        shape = tuple(1 if self.chance(0.25) else extent for extent in of.shape)
        if self.chance(0.3):
            shape = shape[self.random.randint(0, len(shape)) :]
        elif self.chance(0.15) and len(shape) < 5:
            shape = (self.random.randint(1, 3), *shape)
        return self.fresh(of.dtype, shape, **choices)

    # Nodes

    def node(self, operator: str, inputs: list[Tensor | str], *outputs: Tensor, **attributes: object) -> None:
        """Adds a node; outputs come as tensors whose names are still to be given."""
        names = [value.name if isinstance(value, Tensor) else value for value in inputs]
        made = []
        for output in outputs:
            # Bounds beyond float32 or an integer's range would compare infinities and wrapped numbers.
            limit = LIMITS.get(output.dtype, 1e30)
            if output.bound > limit or output.size > 100_000 or output.rank > 6:
                raise Refusal
            made.append(Tensor(**{**output.__dict__, "name": f"v{len(self.nodes)}_{len(made)}"}))
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [m.name for m in made], name, **attributes))
        self.read.update(names)
        self.values += made
        self.produced += made

    def model(self) -> onnx.ModelProto:
        """What nobody reads is an output, and now and then something else."""
        outputs = [v for v in self.produced if v.name not in self.read or self.chance(0.15)]
        infos = [helper.make_tensor_value_info(v.name, KINDS[v.dtype], None) for v in outputs]
        used = [i for i in self.inputs if i.name in self.read]
        self.feeds = {i.name: self.feeds[i.name] for i in used}
        graph = helper.make_graph(
            self.nodes, "generated", used, infos, [c for c in self.constants if c.name in self.read]
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        return False
    return True


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape; operands that were drawn one by one may have none."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise Refusal from None


def like(value: Tensor, **changes: object) -> Tensor:
    """The same knowledge with some changes, for an output."""
    return Tensor(**{**value.__dict__, **changes})


def rounded(shape: tuple[int, ...], bound: float, dtype: type = FLOAT) -> Tensor:
    """A float result that two implementations may round differently."""
    return Tensor("", dtype, shape, bound, None if dtype is FLOAT else 0)
