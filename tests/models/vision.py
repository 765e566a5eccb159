"""ResNet-50 v1.5 (He et al. 2015) and MobileNetV2 (Sandler et al. 2018) with random weights.

Structure and sizes are the papers'; the weights keep the variance of the activations near 1, as training with batch
normalisation does, so that numbers in the last layers have the magnitude they have in a trained network. The
BatchNormalization nodes stay in the graph: folding them is the runtime's work.
"""

import numpy as np
import onnx

from models.graph import FLOAT, Graph


class Network:
    """An image network under construction."""

    def __init__(self, seed: int) -> None:
        self.graph = Graph()
        self.random = np.random.default_rng(seed)
        self.x = self.graph.input("input", FLOAT, ["batch", 3, 224, 224])

    def normal(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape, dtype=np.float32)

    def conv(
        self,
        x: str,
        name: str,
        channels: tuple[int, int],
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        gain: float = 1.0,
    ) -> str:
        """Convolution without bias, then batch normalisation whose statistics fit what the convolution yields."""
        entering, leaving = channels
        fan_in = entering // groups * kernel * kernel
        weights = self.normal(leaving, entering // groups, kernel, kernel)
        if fan_in > kernel * kernel:
            # Filters without a mean look at differences, as trained ones do; else the rectifiers' mean drowns
            # the image.
            weights -= weights.mean(axis=(1, 2, 3), keepdims=True)
        weights /= np.sqrt(fan_in)
        pad = kernel // 2
        x = self.graph.op(
            "Conv", x, self.graph.weight(f"{name}.weight", weights), name=f"{name}.conv", kernel_shape=[kernel] * 2,
            strides=[stride] * 2, pads=[pad] * 4, group=groups,
        )  # fmt: skip
        scale = gain * (1.0 + 0.1 * self.normal(leaving))
        variance = 0.5 * np.exp(0.2 * self.normal(leaving))
        statistics = {
            "scale": scale, "bias": 0.1 * self.normal(leaving), "mean": 0.1 * self.normal(leaving), "var": variance
        }  # fmt: skip
        names = [self.graph.weight(f"{name}.bn.{part}", value) for part, value in statistics.items()]
        return self.graph.op("BatchNormalization", x, *names, name=name, epsilon=1e-5)

    def classifier(self, x: str, channels: int, name: str) -> onnx.ModelProto:
        graph = self.graph
        x = graph.op("Flatten", graph.op("GlobalAveragePool", x, name="pooled"), name="features", axis=1)
        weights = graph.weight("classifier.weight", self.normal(1000, channels) / np.sqrt(channels))
        bias = graph.weight("classifier.bias", 0.01 * self.normal(1000))
        graph.op("Gemm", x, weights, bias, name=graph.output("output", FLOAT, ["batch", 1000]), transB=1)
        return graph.model(name)


def resnet50() -> onnx.ModelProto:
    """25.5 M parameters, 4.1 G multiply-adds an image."""
    network = Network(seed=50)
    op = network.graph.op
    x = op("Relu", network.conv(network.x, "stem", (3, 64), 7, stride=2), name="stem.relu")
    x = op("MaxPool", x, name="stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for block in range(blocks):
            name = f"stage{stage}.block{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            y = op("Relu", network.conv(x, f"{name}.a", (channels, width), 1), name=f"{name}.a.relu")
            y = op("Relu", network.conv(y, f"{name}.b", (width, width), 3, stride=stride), name=f"{name}.b.relu")
            y = network.conv(y, f"{name}.c", (width, 4 * width), 1, gain=0.4)
            if block == 0:
                x = network.conv(x, f"{name}.down", (channels, 4 * width), 1, stride=stride)
                channels = 4 * width
            x = op("Relu", op("Add", y, x, name=f"{name}.sum"), name=f"{name}.relu")
    return network.classifier(x, channels, "resnet50")


def mobilenet_v2() -> onnx.ModelProto:
    """3.5 M parameters, 0.3 G multiply-adds an image; depthwise convolutions and ReLU6."""
    network = Network(seed=2)
    graph = network.graph
    lowest, highest = graph.weight("0", 0.0), graph.weight("6", 6.0)

    def relu6(x: str) -> str:
        return graph.op("Clip", x, lowest, highest, name=f"{x}.relu6")

    x = relu6(network.conv(network.x, "stem", (3, 32), 3, stride=2))
    channels = 32
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for stage, (expansion, width, blocks, first_stride) in enumerate(stages):
        for block in range(blocks):
            name = f"stage{stage}.block{block}"
            stride = first_stride if block == 0 else 1
            hidden = channels * expansion
            y = x if expansion == 1 else relu6(network.conv(x, f"{name}.expand", (channels, hidden), 1))
            y = relu6(network.conv(y, f"{name}.depthwise", (hidden, hidden), 3, stride=stride, groups=hidden))
            y = network.conv(y, f"{name}.project", (hidden, width), 1)
            x = graph.op("Add", x, y, name=f"{name}.sum") if stride == 1 and channels == width else y
            channels = width
    x = relu6(network.conv(x, "head", (channels, 1280), 1))
    return network.classifier(x, 1280, "mobilenet_v2")
