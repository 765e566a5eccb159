"""Which OpenCL device `make run` prepares, for machines that are only described: nothing is looked up or installed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "xtask/setup/opencl.sh"
CARD, PROCESSOR = "mesa-opencl-icd", "pocl-opencl-icd"


@dataclass
class Machine:
    """A machine, by what the script asks of it."""

    amd_gpu: bool = True
    rusticl: bool = False
    other_opencl: bool = False
    installed: str = ""
    offered: str = ""

    def prepare(self) -> tuple[list[str], str]:
        """The packages that it wants, and what it says."""
        answers = {"has_amd_gpu": self.amd_gpu, "has_rusticl": self.rusticl, "has_other_opencl": self.other_opencl}
        script = [
            f"set -euo pipefail; source {SCRIPT}",
            *(f"{name}() {{ {str(answer).lower()}; }}" for name, answer in answers.items()),
            f"mesa_installed() {{ echo '{self.installed}' | upstream; }}",
            f"mesa_offered() {{ echo '{self.offered}' | upstream; }}",
            'as_root() { :; }; say() { echo "$*" >&2; }; want() { echo "$1"; }',
            "want_device",
        ]
        ended = subprocess.run(["bash", "-c", "\n".join(script)], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split(), ended.stderr


@pytest.mark.parametrize("offered", ["25.0.7-2", "25.0.7-0ubuntu0.24.04.2", "1:26.1.0-1", "100.0"])
def test_a_card_gets_rusticl_wherever_a_mesa_that_is_new_enough_can_be_had(offered: str) -> None:
    assert Machine(offered=offered).prepare() == ([CARD], "")


@pytest.mark.parametrize("offered", ["22.3.6-1+deb12u1", "9.9-1", "24.3.4-1~bpo12+1"])
def test_a_mesa_that_is_too_old_is_named_and_the_processor_stands_in(offered: str) -> None:
    wanted, said = Machine(offered=offered).prepare()
    assert wanted == [PROCESSOR]
    assert f"its OpenCL is of Mesa {'.'.join(offered.split('.')[:2]).split('-')[0]}: using the CPU" in said
    assert "install Mesa 25.0 or newer with rusticl" in said


def test_where_no_mesa_can_be_had_that_is_said() -> None:
    wanted, said = Machine(offered="(none)").prepare()
    assert wanted == [PROCESSOR]
    assert "its OpenCL is missing: using the CPU" in said


@pytest.mark.parametrize("installed", ["25.0.7-2", ""], ids=["from a package", "built by its owner"])
def test_a_rusticl_that_is_here_is_used(installed: str) -> None:
    assert Machine(rusticl=True, installed=installed).prepare() == ([], "")


def test_an_old_rusticl_is_replaced_where_a_newer_one_can_be_had() -> None:
    assert Machine(rusticl=True, installed="23.1.2-1", offered="25.0.7-2").prepare() == ([CARD], "")


def test_a_mesa_that_came_without_rusticl_is_not_wanted_a_second_time() -> None:
    wanted, said = Machine(installed="25.0.7-1~bpo12+1", offered="25.0.7-1~bpo12+1").prepare()
    assert wanted == [PROCESSOR]
    assert "using the CPU" in said


def test_a_machine_without_a_card_gets_a_processor_device_once() -> None:
    assert Machine(amd_gpu=False, offered="25.0.7-2").prepare() == ([PROCESSOR], "")
    assert Machine(amd_gpu=False, other_opencl=True).prepare() == ([], "")
