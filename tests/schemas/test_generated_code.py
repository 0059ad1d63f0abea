"""The generated code in schemas/ is what the pinned generators make of the .proto files, and runs on both protobufs."""

import os
import subprocess
import sys
from pathlib import Path

import google.protobuf
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from distila.schemas import e2_service_v1_pb2 as service_pb
from distila.schemas import e2sm_v1_pb2 as pb
from distila.schemas import edgeric_v1_pb2 as edgeric_pb
from distila.xapp.kpi.observations import REPORTED, TABLE

ROOT = Path(__file__).resolve().parents[2]
PROTOC = Path(sys.executable).parent / "protoc"
PROTOBUF_3 = ROOT / ".cache" / "protobuf-3.20.3"
PROTOS = ["distila/schemas/e2_service_v1.proto", "distila/schemas/e2sm_v1.proto", "distila/schemas/edgeric_v1.proto"]


def call(*command, **environment):
    """Run a command in the repository root; what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A folder with what `make proto` would write."""
    out = tmp_path_factory.mktemp("generated")
    call(PROTOC, "-I.", f"--python_out={out}", f"--pyi_out={out}", f"--descriptor_set_out={out}/descriptors", *PROTOS)
    call(sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--grpc_python_out={out}", PROTOS[0])
    return out


def test_the_generators_are_the_pinned_ones():
    assert call(PROTOC, "--version").strip() == "libprotoc 3.21.11"
    metadata = "from importlib.metadata import version; print(version('grpcio-tools'))"
    assert call(sys.executable, "-c", metadata).strip() == "1.85.1"


def test_every_generated_file_is_checked_in_and_nothing_else(generated):
    made = {path.name for path in (generated / "distila" / "schemas").iterdir()}
    assert made == {path.name for pattern in ("*_pb2*.py", "*_pb2*.pyi") for path in (ROOT / "schemas").glob(pattern)}


@pytest.mark.parametrize(
    "name",
    [
        "e2sm_v1_pb2.py",
        "e2sm_v1_pb2.pyi",
        "e2_service_v1_pb2.py",
        "e2_service_v1_pb2.pyi",
        "e2_service_v1_pb2_grpc.py",
        "edgeric_v1_pb2.py",
        "edgeric_v1_pb2.pyi",
    ],
)
def test_checked_in_code_is_byte_for_byte_what_the_generator_makes(generated, name):
    assert (ROOT / "schemas" / name).read_bytes() == (generated / "distila" / "schemas" / name).read_bytes(), (
        "run `make proto`"
    )


@pytest.mark.parametrize("module", [pb, service_pb, edgeric_pb])
def test_the_loaded_descriptor_is_that_of_the_proto_file(generated, module):
    described = FileDescriptorSet.FromString((generated / "descriptors").read_bytes())
    from_proto = {file.name: file for file in described.file}[module.DESCRIPTOR.name]
    for message in from_proto.message_type:
        for field in message.field:
            field.ClearField("json_name")  # protoc writes it into descriptor sets, but not into Python code
    assert type(from_proto).FromString(module.DESCRIPTOR.serialized_pb) == from_proto


ROUND_TRIP = """
import google.protobuf
from google.protobuf.internal import api_implementation
from distila.schemas import e2_service_v1_pb2 as service_pb, e2sm_v1_pb2 as pb
ue = pb.UeReport(rnti=0x4601, ue_id=2**53 - 1, cqi=0, sinr_cdb=-123, cqi_table=pb.CQI_TABLE_2)
indication = pb.IndicationMessage(ues=[ue], harq=pb.HarqCounts(ue=[0], mcs=[28], nack=[3]))
decision = pb.UeDecision(rnti=0x4601, mcs_offset=-2)
control = pb.ControlMessage(arms=[pb.Arm(name="policy")], valid_for_slots=18, ues=[decision])
assert pb.IndicationMessage.FromString(indication.SerializeToString()) == indication
assert pb.ControlMessage.FromString(control.SerializeToString()) == control
assert ue.HasField("cqi") and not ue.HasField("ri") and decision.WhichOneof("action") == "mcs_offset"
carried = service_pb.Indication(message=indication.SerializeToString())
print(google.protobuf.__version__, google.protobuf.__file__, carried.SerializeToString().hex())
"""


def test_the_code_loads_and_round_trips_on_the_protobuf_that_ricxappframe_pins():
    if not PROTOBUF_3.is_dir():
        pytest.skip("run `make test`, which installs it")
    path = os.pathsep.join([str(PROTOBUF_3), str(ROOT)])
    version, file, old = call(sys.executable, "-c", ROUND_TRIP, PYTHONPATH=path).split()
    assert version == "3.20.3"
    assert Path(file).is_relative_to(PROTOBUF_3)
    version, _, new = call(sys.executable, "-c", ROUND_TRIP, PYTHONPATH=str(ROOT)).split()
    assert version == google.protobuf.__version__ != "3.20.3"
    assert old == new, "both write the same octets"


UE_REPORT = pb.UeReport.DESCRIPTOR
MEASURED = ["harq_total_first_tx", *(column.wire_field for column in REPORTED)]


def test_every_field_of_a_ue_is_its_identity_or_a_column_of_the_observation_table():
    in_table = [column.wire_field for column in TABLE if column.wire_field is not None]
    expected = sorted(["rnti", "ue_id", "harq_total_first_tx", *in_table])
    assert sorted(field.name for field in UE_REPORT.fields) == expected


@pytest.mark.parametrize("name", ["ue_id", *MEASURED])
def test_a_measured_field_that_is_absent_is_not_zero(name):
    assert UE_REPORT.fields_by_name[name].has_presence
    assert not pb.UeReport.FromString(pb.UeReport(rnti=1).SerializeToString()).HasField(name)
    assert pb.UeReport.FromString(pb.UeReport(**{name: 0}).SerializeToString()).HasField(name)


def test_the_fast_reader_finds_records_of_one_length_and_keys_of_one_or_two_octets():
    octets = {
        FieldDescriptor.TYPE_FIXED32: 4,
        FieldDescriptor.TYPE_SFIXED32: 4,
        FieldDescriptor.TYPE_FIXED64: 8,
        FieldDescriptor.TYPE_ENUM: 1,
    }
    for field in UE_REPORT.fields:
        assert field.type in octets, field.name
        assert not getattr(field, "is_repeated", False), field.name
        assert 1 <= field.number < 2**11, field.name
    assert sum(2 + octets[field.type] for field in UE_REPORT.fields) < 128, "so that the length is one octet too"


@pytest.mark.parametrize("name", sorted(pb.DESCRIPTOR.enum_types_by_name))
def test_the_zero_of_an_enum_means_unspecified(name):
    zero = pb.DESCRIPTOR.enum_types_by_name[name].values_by_number[0]
    assert zero.name.endswith("_UNSPECIFIED")
