"""The command line against a running server, as a person and as a script would use it."""

import json
import subprocess
from typing import Any

import pytest

import quickstart_model
from serving import BINARIES, Server


def afterglow(server: Server, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [BINARIES / "afterglow", *arguments, "--url", server.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == status, ended.stderr
    return ended


def document(server: Server, *arguments: str) -> Any:
    return json.loads(afterglow(server, *arguments, "--output", "json").stdout)


def test_models_shows_what_of_each_runs_where(server: Server) -> None:
    models = {model["name"]: model for model in document(server, "models")}
    placement = models[quickstart_model.NAME]["placement"]
    assert placement["device_nodes"] > 100
    assert placement["partitions"] == 1
    assert placement["cpu_nodes"] == 0
    assert "nodes in 1 partition" in afterglow(server, "models").stdout


def test_infer_takes_nested_lists_and_answers_all_outputs(server: Server) -> None:
    answer = document(server, "infer", "increment", "--input", "x=[[1.5]]")
    assert answer["outputs"][0]["data"] == [2.5]


def test_embed_ranks_texts_by_their_similarity_to_a_query(server: Server) -> None:
    texts = ["The bakery opens at six.", "Interest rates rose again."]
    ranking = document(server, "embed", quickstart_model.NAME, *texts, "--query", "Where can I buy bread?")["ranking"]
    assert [line["text"] for line in ranking] == texts


def test_bench_counts_every_request_and_reports_percentiles(server: Server) -> None:
    arguments = ["bench", "increment", "--concurrency", "2", "--duration", "500ms", "--warm-up", "100ms"]
    (figures,) = document(server, *arguments)["servers"]
    assert figures["requests"] > 0
    assert figures["failures"] == 0
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"] <= figures["max_ms"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("infer", "no-such-model", "--input", "x=1"),
        ("infer", "increment"),
        ("infer", "increment", "--input", "x=[[1],[2,3]]"),
    ],
)
def test_an_error_ends_with_a_hint(server: Server, arguments: tuple[str, ...]) -> None:
    assert "\nhint: " in afterglow(server, *arguments, status=1).stderr
