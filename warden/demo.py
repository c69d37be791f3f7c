"""`warden demo`: the life of a container that wants too much memory, played on a server."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from warden.client import BlockingClient
from warden.config import Config
from warden.engine import rootfs
from warden.protocol import pb

LIMIT = 64 << 20  # bytes
# 200 MB of a bash that the job's own starts: any root file system can play.
HUNGRY = b"head -c 200000000 /dev/zero | tail -c 200000000 >/dev/null; exit $?"  # tail keeps all of it
_START_S = 60.0
_STOP_S = 30.0
Say = Callable[[str], None]


def play(path: str, config: Config, say: Say) -> int:
    """The whole story; 0 if it went as it should, 1 if not. OSError, EngineError: no server, or no root for it."""
    with _server(path, config, say) as socket, BlockingClient.connect(socket) as client:
        began = time.monotonic()
        handle = client.call(pb.CreateRequest()).handle
        say(f"create: {handle} ({time.monotonic() - began:.2f} s)")
        try:
            return _story(client, handle, say)
        finally:
            began = time.monotonic()
            client.call(pb.DestroyRequest(handle=handle))
            say(f"destroy: gone ({time.monotonic() - began:.2f} s)")


def _story(client: BlockingClient, handle: str, say: Say) -> int:
    hello = client.call(pb.RunRequest(handle=handle, script=b"id; hostname"))
    say(f"run `id; hostname`: {hello.stdout.decode(errors='replace').strip()}")
    limit = client.call(pb.LimitMemoryRequest(handle=handle, limit_in_bytes=LIMIT)).limit_in_bytes
    say(f"limit-memory: {limit} bytes")
    began = time.monotonic()
    reply = client.call(pb.RunRequest(handle=handle, script=HUNGRY))
    say(f"run what takes 200 MB: exit status {reply.exit_status} ({time.monotonic() - began:.2f} s)")
    end = time.monotonic() + _STOP_S
    info = client.call(pb.InfoRequest(handle=handle))
    while reply.exit_status != 0 and time.monotonic() < end:
        info = client.call(pb.InfoRequest(handle=handle))
        if "out of memory" in info.events and info.state == "stopped":
            say(f"info: state {info.state}, events {', '.join(info.events)}")
            return 0
        time.sleep(0.05)
    say(f"info: state {info.state}, no event: this server's engine enforces no limit on memory")
    return 1


@contextlib.contextmanager
def _server(path: str, config: Config, say: Say) -> Iterator[str]:
    """The socket of a server: of the one at `path`, or of one that lives as long as this."""
    try:
        BlockingClient.connect(path).close()
    except OSError:
        pass
    else:
        say(f"server: the one at {path}")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="warden-demo-") as folder:
        config.server.unix_domain_path = f"{folder}/warden.sock"
        config.server.container_depot_path = f"{folder}/depot"
        config.server.pidfile = config.logging.file = config.logging.syslog = ""
        config.server.name = "warden_demo"
        config.health_check_server.port = type(config.health_check_server.port)(0)
        if config.engine != "insecure" and not Path(config.server.container_rootfs_path).is_dir():
            config.server.container_rootfs_path = f"{folder}/rootfs"
            rootfs.build(Path(folder) / "rootfs", minimal=True)
            say("root file system: a minimal one, for this demo")
        file = Path(folder) / "config.yml"
        tree = {name: value for name, value in asdict(config).items() if name != "warnings"}
        tree["server"]["container_rlimits"] = config.server.container_rlimits.given()
        file.write_bytes(json.dumps(tree).encode())  # JSON is YAML
        log = Path(folder) / "log"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # of a checkout that is not installed
        arguments = [sys.executable, "-m", "warden", "serve", "-c", str(file)]
        with open(log, "wb") as stream:
            process = subprocess.Popen(arguments, stdout=stream, stderr=stream, env=environment)
        try:
            _await(process, config.server.unix_domain_path, log)
            say(f"server: one of its own, engine {config.engine or 'runc'}")
            yield config.server.unix_domain_path
        finally:
            process.terminate()
            process.wait()


def _await(process: "subprocess.Popen[bytes]", path: str, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            BlockingClient.connect(path).close()
            return
        except OSError:
            time.sleep(0.02)
    said = log.read_text(errors="replace").strip().splitlines()
    raise OSError(said[-1] if said else f"the server ended with status {process.poll()}")
