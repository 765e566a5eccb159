"""Builds the wheel `onnxruntime-ep-afterglow` (PEP 517), with nothing but Python's standard library.

The wheel is the provider's shared library beside a small module. Its platform tag is what the library really needs:
the newest glibc version among the symbols it links to. The same inputs give the same bytes.

The library is taken from the folder `target/release` of the workspace, or from `AFTERGLOW_EP_LIBRARY`.
"""

import base64
import hashlib
import os
import platform
import re
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKSPACE = HERE.parents[2]

DISTRIBUTION = "onnxruntime_ep_afterglow"
LIBRARY = "libafterglow_opencl_ep.so"

# Before the first year that a zip archive can hold nothing; any fixed time makes the archive reproducible.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)

METADATA = """\
Metadata-Version: 2.4
Name: onnxruntime-ep-afterglow
Version: {version}
Summary: Runs ONNX models on OpenCL devices, as a plugin execution provider of ONNX Runtime
License-Expression: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.10
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: 3
Description-Content-Type: text/markdown

{description}"""

WHEEL = """\
Wheel-Version: 1.0
Generator: afterglow
Root-Is-Purelib: false
Tag: {tag}
"""


def version() -> str:
    """The workspace's one version."""
    return tomllib.loads((WORKSPACE / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def library() -> Path:
    path = Path(os.environ.get("AFTERGLOW_EP_LIBRARY", WORKSPACE / "target/release" / LIBRARY))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: build it first with `cargo build --release -p opencl-ep`")
    return path


def tag(binary: bytes) -> str:
    """The wheel's tag: any Python 3, this architecture, the oldest glibc the library loads with."""
    needed = [int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)(?:\.\d+)?(?=\0)", binary)]
    if not needed:
        raise ValueError(f"{LIBRARY} names no glibc version: not a Linux library linked against glibc")
    # manylinux policies begin with glibc 2.17.
    return f"py3-none-manylinux_2_{max(17, *needed)}_{platform.machine()}"


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, object] | None = None,  # noqa: ARG001 PEP 517 names the arguments
    metadata_directory: str | None = None,  # noqa: ARG001
) -> str:
    binary = library().read_bytes()
    stem, wheel_tag = f"{DISTRIBUTION}-{version()}", tag(binary)
    description = (HERE / "README.md").read_text()
    members = {
        f"{DISTRIBUTION}/__init__.py": (HERE / DISTRIBUTION / "__init__.py").read_bytes(),
        f"{DISTRIBUTION}/py.typed": b"",
        f"{DISTRIBUTION}/{LIBRARY}": binary,
        f"{stem}.dist-info/METADATA": METADATA.format(version=version(), description=description).encode(),
        f"{stem}.dist-info/WHEEL": WHEEL.format(tag=wheel_tag).encode(),
        f"{stem}.dist-info/licenses/LICENSE": (WORKSPACE / "LICENSE").read_bytes(),
    }
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{name},sha256={digest(content)},{len(content)}" for name, content in members.items()]
    members[record] = "\n".join([*lines, f"{record},,", ""]).encode()

    name = f"{stem}-{wheel_tag}.whl"
    Path(wheel_directory).mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            info = zipfile.ZipInfo(member, TIMESTAMP)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if member.endswith(".so") else 0o644) << 16
            archive.writestr(info, content)
    return name


def digest(content: bytes) -> str:
    """As RECORD wants it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def build_sdist(sdist_directory: str, config_settings: dict[str, object] | None = None) -> str:
    raise NotImplementedError("this package is built from the Afterglow workspace; there is no source distribution")
