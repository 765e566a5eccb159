"""One server for all client tests, with a repository of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import quickstart_model
from models.make_models import make
from models.small import DATATYPES
from serving import Server, serve

SERVED = ["simple", "perceptron", "increment", "classify", "uppercase", "loop", "lstm", "scalars", "fixed_shape"]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    make(folder, [*SERVED, *(f"identity_{name.lower()}" for name in DATATYPES)])
    embedder = quickstart_model.FOLDER.parent
    shutil.copytree(embedder, folder / embedder.name)
    return folder


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(repository, tmp_path_factory.mktemp("log") / "engine.log") as server:
        yield server
