"""What the guide shows works as shown."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import quickstart_model
from serving import ROOT, Server, serve

GUIDE = ROOT / "docs/guide"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (GUIDE / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", blocks("quickstart.md", "python"), ids=["openai", "tritonclient"])
def test_the_quickstarts_python_runs(server: Server, code: str) -> None:
    assert "127.0.0.1:8000" in code
    exec(compile(code.replace("127.0.0.1:8000", server.http), "quickstart.md", "exec"), {})


def test_the_quickstarts_shell_commands_run(server: Server) -> None:
    (by_hand,) = [block for block in blocks("quickstart.md", "sh") if "curl" in block]
    script = by_hand.replace("127.0.0.1:8000", server.http).replace("search.py", f"search.py --url {server.url}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert '"embedding"' in done.stdout
    assert "The train to Hamburg leaves from platform seven." in done.stdout


def test_every_documented_setting_is_accepted(tmp_path: Path) -> None:
    (settings,) = [block for block in blocks("models.md", "yaml") if "\nversionPolicy:" in block]
    model = tmp_path / "models/documented"
    shutil.copytree(quickstart_model.FOLDER, model / "1")
    (model / "model.yaml").write_text(settings)
    with (
        serve(tmp_path, tmp_path / "log") as server,
        urllib.request.urlopen(f"{server.url}/v2/models/documented/ready", timeout=30) as answer,
    ):
        assert answer.status == 200
