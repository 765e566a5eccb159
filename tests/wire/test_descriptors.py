"""Our .proto against the descriptors inside tritonclient: same names, numbers and types, so that clients decode us."""

import os
import subprocess
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
service_pb2 = pytest.importorskip("tritonclient.grpc.service_pb2")

ROOT = Path(__file__).resolve().parents[2]

# Messages of the configuration that describe features Afterglow does not have; their fields are reserved in ours.
NOT_OFFERED = {
    "BatchInput",
    "BatchOutput",
    "ModelEnsembling",
    "ModelInstanceGroup",
    "ModelMetrics",
    "ModelOperations",
    "ModelOptimizationPolicy",
    "ModelRateLimiter",
    "ModelRepositoryAgents",
    "ModelSequenceBatching",
    "ModelTensorReshape",
    "ModelWarmup",
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The descriptor set that `cargo xtask generate` compiles the Rust from."""
    path = tmp_path_factory.mktemp("descriptors") / "inference.bin"
    command = [
        "cargo",
        "run",
        "--quiet",
        "--release",
        "--package",
        "xtask",
        "--",
        "generate",
        "--check",
        "--descriptors",
        path,
    ]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ)
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    return {file.name: file for file in files.file}


def theirs(module):
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def messages(file):
    """Full name -> message, nested ones included."""
    found = {}

    def walk(prefix, message):
        name = f"{prefix}{message.name}"
        found[name] = message
        for nested in message.nested_type:
            walk(f"{name}.", nested)

    for message in file.message_type:
        walk("", message)
    return found


def fields(message):
    """Number -> everything about a field that the wire or a client's code depends on."""
    described = {}
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        described[field.number] = (field.name, field.type, field.label, field.type_name, oneof)
    return described


def enums(file):
    found = {enum.name: enum for enum in file.enum_type}
    for name, message in messages(file).items():
        found.update({f"{name}.{enum.name}": enum for enum in message.enum_type})
    return {name: {value.name: value.number for value in enum.value} for name, enum in found.items()}


def test_package_and_the_twenty_rpcs_are_the_same(ours):
    mine, oracle = ours["grpc_service.proto"], theirs(service_pb2)

    def describe(file):
        (service,) = file.service
        rpcs = {
            rpc.name: (rpc.input_type, rpc.output_type, rpc.client_streaming, rpc.server_streaming)
            for rpc in service.method
        }
        return file.package, service.name, rpcs

    assert describe(mine) == describe(oracle)
    assert len(mine.service[0].method) == 20


def test_every_message_of_the_service_is_the_same_field_by_field(ours):
    mine, oracle = messages(ours["grpc_service.proto"]), messages(theirs(service_pb2))
    assert sorted(mine) == sorted(oracle)
    for name, message in oracle.items():
        assert fields(mine[name]) == fields(message), name


def test_what_the_configuration_declares_is_the_same_and_the_rest_is_reserved(ours):
    mine, oracle = messages(ours["model_config.proto"]), messages(theirs(model_config_pb2))
    top_level = {name for name in oracle if "." not in name}
    assert top_level - set(mine) == NOT_OFFERED
    for name, message in mine.items():
        declared, known = fields(message), fields(oracle[name])
        assert declared.items() <= known.items(), name
        reserved = {number for span in message.reserved_range for number in range(span.start, span.end)}
        assert set(known) - set(declared) <= reserved, f"{name}: fields neither declared nor reserved"


def test_enums_have_the_same_values(ours):
    for file, module in (("grpc_service.proto", service_pb2), ("model_config.proto", model_config_pb2)):
        oracle = enums(theirs(module))
        for name, values in enums(ours[file]).items():
            assert values == oracle[name], name
