"""inference.proto against the code that is made of it, and what is imported for gRPC, and when."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from services.inference.protocols.v2 import inference_pb2
from services.inference.standalone import Options
from tests.unit.common.catalog import write_entry
from tests.unit.routing.processes import ROOT, free_port

PROTO = ROOT / "services/inference/protocols/v2/inference.proto"
LINE = re.compile(
    r"message (?P<message>\w+) \{(?P<empty>\})?|oneof (?P<oneof>\w+) \{|(?P<end>\})"
    r"|(?P<repeated>repeated )?(?P<type>\w+|map<string, \w+>) (?P<field>\w+) = (?P<number>\d+);"
)
SCALARS = {
    FieldDescriptor.TYPE_BOOL: "bool", FieldDescriptor.TYPE_STRING: "string", FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_INT32: "int32", FieldDescriptor.TYPE_INT64: "int64", FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64", FieldDescriptor.TYPE_FLOAT: "float", FieldDescriptor.TYPE_DOUBLE: "double",
}  # fmt: skip

Messages = dict[str, set[tuple[int, str, str]]]
"""Number, name and type of the fields of each message, by its name with those around it."""


def written(proto: str) -> Messages:
    """What the file says."""
    found: Messages = {}
    around: list[str] = []  # "" for what is no message
    for line in re.sub(r"//.*", "", proto[proto.index("\nmessage ") :]).splitlines():
        part = LINE.fullmatch(line.strip())
        if part is None:
            assert not line.strip(), line
        elif name := part["message"]:
            found[".".join([*around, name])] = set()
            if not part["empty"]:
                around.append(name)
        elif part["oneof"]:
            around.append("")
        elif part["end"]:
            around.pop()
        else:
            kind = f"{part['repeated'] or ''}{part['type']}"
            found[".".join(filter(None, around))].add((int(part["number"]), part["field"], kind))
    assert not around
    return found


def generated() -> Messages:
    """What the code says."""
    found: Messages = {}

    def add(message: Descriptor, around: str = "") -> None:
        if message.GetOptions().map_entry:
            return
        found[around + message.name] = {
            (field.number, field.name, type_of(field)) for field in message.fields
        }
        for nested in message.nested_types:
            add(nested, f"{around}{message.name}.")

    for message in inference_pb2.DESCRIPTOR.message_types_by_name.values():
        add(message)
    return found


def type_of(field: FieldDescriptor) -> str:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return f"map<string, {type_of(message.fields_by_name['value'])}>"
    name = SCALARS[field.type] if message is None else message.name
    return f"repeated {name}" if field.is_repeated else name


def test_the_generated_messages_are_those_of_the_proto() -> None:
    assert written(PROTO.read_text()) == generated()


def test_the_generated_service_is_that_of_the_proto() -> None:
    rpc = re.compile(r"^  rpc (\w+)\((\w+)\) returns \((\w+)\) \{\}$", re.MULTILINE)
    (service,) = inference_pb2.DESCRIPTOR.services_by_name.values()
    assert service.full_name == "inference.GRPCInferenceService"
    assert rpc.findall(PROTO.read_text()) == [
        (method.name, method.input_type.name, method.output_type.name) for method in service.methods
    ]


def test_a_field_that_drifts_is_seen() -> None:
    proto = PROTO.read_text()
    for before, after in (
        ("string id = 3;", "string id = 8;"),
        ("repeated int64 shape = 3;", "int64 shape = 3;"),
        ("bytes bytes_param = 4;", ""),
    ):
        assert before in proto and written(proto.replace(before, after)) != generated()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog")
    write_entry(path)
    return path


def python(code: str, options: Options) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, with the options as its argument."""
    told = msgspec.json.encode(options).decode()
    command = [sys.executable, "-c", code, told]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("asked", [False, True])
def test_grpc_is_imported_when_a_port_is_asked_for_and_not_before(catalog: Path, asked: bool) -> None:
    code = (
        "import sys, msgspec\n"
        "from services.inference.standalone import Options, Standalone\n"
        "Standalone(msgspec.json.decode(sys.argv[1], type=Options))\n"
        "print([name in sys.modules for name in ('grpc', 'google.protobuf', 'grpc_health')])"
    )
    options = Options(catalog=str(catalog), preload=("intent.tiny",), grpc_port=free_port() if asked else 0)
    ended = python(code, options)
    assert ended.stdout.strip() == str([asked] * 3), ended.stderr


def test_a_port_for_grpc_without_its_package_is_one_line_that_names_the_way_out(catalog: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['grpc'] = None  # as where it is not installed\n"
        "from services.inference.standalone import main\n"
        "main()"
    )
    ended = python(code, Options(catalog=str(catalog), port=free_port(), grpc_port=free_port()))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
    assert "--grpc-port needs the packages grpcio" in ended.stderr and "make setup" in ended.stderr
