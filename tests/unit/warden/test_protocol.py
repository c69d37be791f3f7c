"""The bytes on the socket: numbers and types as published, frames, and what does not decode."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from warden.protocol import TYPES, BadFrame, Decoder, ProtocolError, decode, encode, generate, pb

# r = required, o = optional, * = repeated; v = varint, l = length-delimited. Name, number.
MEMORY = (
    "cache", "rss", "mapped_file", "pgpgin", "pgpgout", "swap", "pgfault", "pgmajfault", "inactive_anon", "active_anon",
    "inactive_file", "active_file", "unevictable",
)  # fmt: skip
RLIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "sigpending", "stack",
)  # fmt: skip
DISK = [
    f"ov {unit}{ending} {base + place}"
    for unit, base in (("block", 10), ("inode", 20), ("byte", 30))
    for place, ending in enumerate(("_limit", "", "_soft", "_hard"))
]
JOB = ["rl handle 1", "rl script 2", "ov privileged 3", "ol rlimits 4", "ov discard_output 5", "ol log_tag 6"]
ENDED = ["ov exit_status 1", "ol stdout 2", "ol stderr 3", "ol info 4"]
COPY = ["rl handle 1", "rl src_path 2", "rl dst_path 3"]
HANDLE = ["rl handle 1"]
WANTED = {
    "Message": ["rv type 1", "rl payload 2"],
    "ErrorResponse": ["ol message 2", "*l backtrace 3", "ol data 4"],
    "CreateRequest": ["*l bind_mounts 1", "ov grace_time 2", "ol handle 3", "ol network 4", "ol rootfs 5"],
    "CreateRequest.BindMount": ["rl src_path 1", "rl dst_path 2", "rv mode 3"],
    "CreateResponse": HANDLE,
    "StopRequest": [*HANDLE, "ov background 10", "ov kill 20"],
    "StopResponse": [],
    "DestroyRequest": HANDLE,
    "DestroyResponse": [],
    "InfoRequest": HANDLE,
    "InfoResponse": [
        "ol state 10", "*l events 20", "ol host_ip 30", "ol container_ip 31", "ol container_path 32",
        "ol memory_stat 40", "ol cpu_stat 41", "ol disk_stat 42", "ol bandwidth_stat 43", "*v job_ids 44",
    ],
    "InfoResponse.MemoryStat": [
        *(f"ov {name} {number}" for number, name in enumerate(MEMORY, 1)),
        "ov hierarchical_memory_limit 14", "ov hierarchical_memsw_limit 15",
        *(f"ov total_{name} {number}" for number, name in enumerate(MEMORY, 16)),
    ],
    "InfoResponse.CpuStat": ["ov usage 1", "ov user 2", "ov system 3"],
    "InfoResponse.DiskStat": ["ov bytes_used 1", "ov inodes_used 2"],
    "InfoResponse.BandwidthStat": ["ov in_rate 1", "ov in_burst 2", "ov out_rate 3", "ov out_burst 4"],
    "ResourceLimits": [f"ov {name} {number}" for number, name in enumerate(RLIMITS, 1)],
    "SpawnRequest": JOB,
    "SpawnResponse": ["rv job_id 1"],
    "LinkRequest": [*HANDLE, "rv job_id 2"],
    "LinkResponse": ENDED,
    "RunRequest": JOB,
    "RunResponse": ENDED,
    "StreamRequest": [*HANDLE, "rv job_id 2"],
    "StreamResponse": ["ol name 1", "ol data 2", "ov exit_status 3", "ol info 4"],
    "NetInRequest": [*HANDLE, "ov container_port 2", "ov host_port 3"],
    "NetInResponse": ["rv host_port 1", "rv container_port 2"],
    "NetOutRequest": [
        *HANDLE, "ol network 2", "ov port 3", "ol port_range 4", "ov protocol 5", "ov icmp_type 6", "ov icmp_code 7",
        "ov log 8",
    ],
    "NetOutResponse": [],
    "CopyInRequest": COPY,
    "CopyInResponse": [],
    "CopyOutRequest": [*COPY, "ol owner 4"],
    "CopyOutResponse": [],
    "LimitMemoryRequest": [*HANDLE, "ov limit_in_bytes 2"],
    "LimitMemoryResponse": ["ov limit_in_bytes 1"],
    "LimitCpuRequest": [*HANDLE, "ov limit_in_shares 2"],
    "LimitCpuResponse": ["ov limit_in_shares 1"],
    "LimitBandwidthRequest": [*HANDLE, "rv rate 2", "rv burst 3"],
    "LimitBandwidthResponse": ["rv rate 1", "rv burst 2"],
    "LimitDiskRequest": [*HANDLE, *DISK],
    "LimitDiskResponse": DISK,
    "PingRequest": [],
    "PingResponse": [],
    "ListRequest": [],
    "ListResponse": ["*l handles 1"],
    "EchoRequest": ["rl message 1"],
    "EchoResponse": ["rl message 1"],
}  # fmt: skip

NUMBERS = {
    "Error": 1, "Create": 11, "Stop": 12, "Destroy": 13, "Info": 14, "Spawn": 21, "Link": 22, "Run": 23,
    "Stream": 24, "NetIn": 31, "NetOut": 32, "CopyIn": 41, "CopyOut": 42, "LimitMemory": 51, "LimitDisk": 52,
    "LimitBandwidth": 53, "LimitCpu": 54, "Ping": 91, "List": 92, "Echo": 93,
}  # fmt: skip


def shape(descriptor: Descriptor) -> list[str]:
    lengthy = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)
    found = []
    for field in descriptor.fields:
        label = "r" if field.is_required else "*" if field.is_repeated else "o"
        assert not field.is_packed
        found.append(f"{label}{'l' if field.type in lengthy else 'v'} {field.name} {field.number}")
    return found


def messages(within: dict[str, Descriptor], prefix: str = "") -> dict[str, Descriptor]:
    found = {}
    for name, descriptor in within.items():
        found[prefix + name] = descriptor
        found.update(messages(descriptor.nested_types_by_name, f"{prefix}{name}."))
    return found


def test_fields_have_the_published_numbers() -> None:
    known = messages(dict(pb.DESCRIPTOR.message_types_by_name))
    assert known.keys() == WANTED.keys()
    assert {name: sorted(shape(known[name])) for name in known} == {name: sorted(WANTED[name]) for name in WANTED}


def test_types_have_the_published_numbers() -> None:
    assert dict(pb.Message.Type.items()) == NUMBERS
    assert len(TYPES) == 19
    assert dict(pb.NetOutRequest.Protocol.items()) == {"TCP": 0, "UDP": 1, "ICMP": 2, "ALL": 3}
    assert dict(pb.CreateRequest.BindMount.Mode.items()) == {"RO": 0, "RW": 1}


def test_the_generated_module_is_in_step(tmp_path: Path) -> None:
    # In a process of its own: protoc ends a process that it does not like.
    code = "import sys; from pathlib import Path; from warden.protocol import generate; "
    subprocess.run([sys.executable, "-c", f"{code}generate.generate(Path(sys.argv[1]))", str(tmp_path)],
                   check=True, cwd=generate.ROOT)  # fmt: skip
    for name in ("warden_pb2.py", "warden_pb2.pyi"):
        made = (tmp_path / "warden" / "protocol" / name).read_text()
        assert made == (generate.ROOT / "warden" / "protocol" / name).read_text(), "run warden/protocol/generate.py"


# Written by hand, from the tables: type 8 varint, payload 0x12 length.
KNOWN = [
    (pb.PingRequest(), b"4\r\n\x08\x5b\x12\x00\r\n"),
    (pb.EchoRequest(message=b"hi\xff"), b"9\r\n\x08\x5d\x12\x05\x0a\x03hi\xff\r\n"),
    (pb.ErrorResponse(message="unknown handle"), b"20\r\n\x08\x01\x12\x10\x12\x0eunknown handle\r\n"),
    (pb.StopRequest(handle="a", background=True), b"9\r\n\x08\x0c\x12\x05\x0a\x01a\x50\x01\r\n"),
    (
        pb.LimitMemoryRequest(handle="a", limit_in_bytes=67108864),
        b"12\r\n\x08\x33\x12\x08\x0a\x01a\x10\x80\x80\x80\x20\r\n",
    ),
    (pb.StreamResponse(name="stdout", data=b"\x00\xff"), b"16\r\n\x08\x18\x12\x0c\x0a\x06stdout\x12\x02\x00\xff\r\n"),
    (pb.InfoResponse(job_ids=[1, 300]), b"11\r\n\x08\x0e\x12\x07\xe0\x02\x01\xe0\x02\xac\x02\r\n"),
]


@pytest.mark.parametrize(("message", "frame"), KNOWN, ids=[type(message).__name__ for message, _ in KNOWN])
def test_frames_byte_for_byte(message: object, frame: bytes) -> None:
    assert encode(message) == frame  # type: ignore[arg-type]
    replies = type(message).__name__.endswith("Response")
    assert list(Decoder(replies).feed(frame)) == [message]


# -- every field of every message, put together by hand from the tables above ---------------------------------------

INNER = {
    "bind_mounts": "CreateRequest.BindMount", "rlimits": "ResourceLimits", "info": "InfoResponse",
    "memory_stat": "InfoResponse.MemoryStat", "cpu_stat": "InfoResponse.CpuStat",
    "disk_stat": "InfoResponse.DiskStat", "bandwidth_stat": "InfoResponse.BandwidthStat",
}  # fmt: skip
SMALL = {"mode": 1, "protocol": 2, "background": 1, "kill": 1, "privileged": 1, "discard_output": 1, "log": 1}


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def sized(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def filled(name: str) -> tuple[dict[str, object], bytes]:
    """Each field of a message set to something; and its bytes."""
    values: dict[str, object] = {}
    data = b""
    for entry in sorted(WANTED[name], key=lambda entry: int(entry.split()[2])):
        kind, field, number = entry.split()[0], entry.split()[1], int(entry.split()[2])
        value: object
        if kind[1] == "v":
            value = SMALL.get(field, 1 << 14 | number)  # of three bytes
            piece = varint(number << 3) + varint(int(str(value)))
        elif field in INNER:
            value, inside = filled(INNER[field])
            piece = sized(number, inside)
        else:
            value = f"{field} \N{SNOWMAN}".encode()
            piece = sized(number, value)
        values[field] = [value, value] if kind[0] == "*" else value
        data += piece * (2 if kind[0] == "*" else 1)
    return values, data


WHOLE = [name for kind in NUMBERS for name in (f"{kind}Request", f"{kind}Response") if name in WANTED]


@pytest.mark.parametrize("name", WHOLE)
def test_every_field_byte_for_byte(name: str) -> None:
    values, data = filled(name)
    payload = b"\x08" + varint(NUMBERS[name.removesuffix("Request").removesuffix("Response")]) + sized(2, data)
    frame = b"%d\r\n%b\r\n" % (len(payload), payload)
    message = getattr(pb, name)(**values)
    assert encode(message) == frame
    assert list(Decoder(replies=name.endswith("Response")).feed(frame)) == [message]


def test_every_message_is_among_them() -> None:
    assert len(WHOLE) == 2 * 19 + 1


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.integers(0, 300), max_size=6))
def test_however_the_bytes_arrive(texts: list[bytes], cuts: list[int]) -> None:
    sent = [pb.EchoRequest(message=text) for text in texts]
    data = b"".join(encode(message) for message in sent)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = Decoder()
    got = [
        message for begin, end in itertools.pairwise(edges) for message in decoder.feed(data[begin:end])
    ]  # fmt: skip
    assert got == sent


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\xff\xff", b"\x08\x63\x12\x00", b"\x08\x5b", b"\x12\x00", b"\x08\x0d\x12\x00",
        b"\x08\x0d\x12\x05\x0a\x09a", b"\x08\x17\x12\x03\x0a\x01a",
    ],
    ids=["empty", "garbage", "unknown type", "no payload", "no type", "no handle", "cut short", "no script"],
)  # fmt: skip
def test_what_does_not_decode_spoils_only_itself(payload: bytes) -> None:
    assert isinstance(decode(payload), BadFrame)
    bad = b"%d\r\n%b\r\n" % (len(payload), payload)
    found = list(Decoder().feed(bad + encode(pb.PingRequest())))
    assert isinstance(found[0], BadFrame)
    assert found[1:] == [pb.PingRequest()]


@pytest.mark.parametrize(
    "line", [b"x\r\n", b"-1\r\n", b"+4\r\n", b"1e3\r\n", b"\r\n", b"999999999\r\n", b"1" * 12, b" 4\r\n"]
)
def test_a_line_that_is_no_length_ends_it(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="no length of a frame"):
        list(Decoder().feed(line))


def test_a_frame_ends_with_cr_lf() -> None:
    with pytest.raises(ProtocolError, match="does not end with CR LF"):
        list(Decoder().feed(b"4\r\n\x08\x5b\x12\x00xx"))


def test_what_lacks_a_field_is_not_sent() -> None:
    with pytest.raises(ValueError, match="EchoRequest lacks message"):
        encode(pb.EchoRequest())
