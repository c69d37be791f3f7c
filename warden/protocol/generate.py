"""Writes warden_pb2.py and warden_pb2.pyi anew from warden.proto: `python -m warden.protocol.generate`.

Needs grpcio-tools, for the protoc in it; the package itself does not.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def generate(out: Path) -> None:
    """Writes the two files below the folder `out`, in warden/protocol. RuntimeError if protoc refuses the .proto."""
    from grpc_tools import protoc

    # The path below the root is the name of the file in protobuf's pool, where another warden.proto may be.
    source = ROOT / "warden" / "protocol" / "warden.proto"
    status = protoc.main(["protoc", f"-I{ROOT}", f"--python_out={out}", f"--pyi_out={out}", str(source)])
    if status:
        raise RuntimeError(f"protoc ended with status {status}")


if __name__ == "__main__":
    generate(ROOT)
