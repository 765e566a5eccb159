"""Writes the tests' models as a model repository: FOLDER/NAME/1/model.onnx and, where it says something, model.yaml.

    make_models.py FOLDER [NAME…]

Names are those of README.md; without names, all that are not broken. `broken` stands for all broken ones. The same
names give the same bytes, and files that exist are kept.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from models.broken import BROKEN
from models.small import MODELS as SMALL
from models.vision import mobilenet_v2, resnet50

MODELS = {**SMALL, "mobilenet_v2": mobilenet_v2, "resnet50": resnet50}

# Long enough that requests which arrive one by one within a test meet in one batch.
VISION_BATCHING = "batching: { maxBatchSize: 8, maxDelay: 20ms, preferredSizes: [8] }\nplacement: strict\n"
# Text and arithmetic in half floats: not one node of these runs on any device, so their owner has to ask for it.
WHOLLY_ON_THE_CPU = "placement: cpu\n"
SETTINGS = {
    **dict.fromkeys(("add_fp16", "identity_bytes", "identity_bf16", "uppercase"), WHOLLY_ON_THE_CPU),
    "mobilenet_v2": VISION_BATCHING,
    "resnet50": VISION_BATCHING,
    "simple": "batching: { maxBatchSize: 8, maxDelay: 1ms }\n",
    "perceptron": "batching: { maxBatchSize: 16, maxDelay: 2ms, preferredSizes: [4, 8] }\n",
}


def write(folder: Path, name: str) -> None:
    version = folder / name / "1"
    if version.exists():
        return
    version.mkdir(parents=True)
    if name in BROKEN:
        BROKEN[name](version)
        return
    partial = version / "model.onnx.partial"
    partial.write_bytes(MODELS[name]().SerializeToString(deterministic=True))
    if name in SETTINGS:
        (folder / name / "model.yaml").write_text(SETTINGS[name])
    partial.rename(version / "model.onnx")


def make(folder: Path, names: list[str]) -> None:
    unknown = set(names) - MODELS.keys() - BROKEN.keys() - {"broken"}
    if unknown:
        raise SystemExit(f"make_models.py: no such model: {', '.join(sorted(unknown))}")
    for name in names or MODELS:
        for each in BROKEN if name == "broken" else [name]:
            write(folder, each)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    make(Path(sys.argv[1]), sys.argv[2:])
