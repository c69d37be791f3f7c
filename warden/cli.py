"""The program `warden`: the server, and each request as a command.

The exit status is that of the job for run, link and stream, and 1 for what the server refuses, with its text on stderr.
"""

import asyncio
import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gorouter_py.component import ConfigError
from warden import client as clients
from warden.client import BlockingClient
from warden.protocol import ProtocolError, pb

_ENGINES = ("runc", "insecure")


class Session:
    """The connection of this run of the program, made when the first request needs it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._client: BlockingClient | None = None

    @property
    def client(self) -> BlockingClient:
        if self._client is None:
            self._client = BlockingClient.connect(self.path)
        return self._client

    def call(self, request: Any) -> Any:
        with self.complaints():
            return self.client.call(request)

    @contextlib.contextmanager
    def complaints(self) -> Any:
        """Errors of the server and of the connection become the program's."""
        try:
            yield
        except clients.WardenError as error:
            missing = re.fullmatch(r"rootfs (.*) not found", str(error))
            mend = f"; make one on its machine: warden rootfs build {missing[1]}, or with --minimal" if missing else ""
            raise click.ClickException(f"{error}{mend}") from error
        except (OSError, ProtocolError) as error:
            self.close()
            raise click.ClickException(f"{self.path}: {error}; does `warden serve` run there?") from error

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


def examples(*lines: str) -> str:
    """The end of a command's help: lines to type."""
    return "\n".join(["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  warden {line}" for line in lines)])


@click.group()
@click.option("-s", "--socket", envvar="WARDEN_SOCKET", default=clients.DEFAULT_PATH, show_default=True,
              help="Where the server listens; also by the variable WARDEN_SOCKET.")  # fmt: skip
@click.pass_context
def main(context: click.Context, socket: str) -> None:
    """Isolated, limited, short-lived environments for apps."""
    if context.obj is None:
        context.obj = Session(socket)
        context.call_on_close(context.obj.close)


def request(name: str, *lines: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command that talks to the server; its function gets the session first. lines: examples of it."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        register = main.command(name, epilog=examples(*lines), **settings)
        command: click.Command = register(click.pass_obj(function))
        return command

    return wrap


handle = click.argument("handle")
job = click.argument("job_id", type=int)


# -- server ---------------------------------------------------------------------------------------------------------


def _load(path: str | None, engine: str | None = None) -> Any:
    from warden import config

    try:
        loaded = config.load(path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    if engine:
        loaded.server.engine = engine
    return loaded


config_option = click.option("-c", "--config", "path", type=click.Path(), help="YAML file; the defaults without.")


@main.command(epilog=examples("serve -c warden.yml", "serve --engine insecure"))
@config_option
@click.option("--engine", type=click.Choice(_ENGINES), help="Instead of the file's server.engine.")
def serve(path: str | None, engine: str | None) -> None:
    """Run the server until TERM or INT ends it, or USR2 drains it. Containers stay."""
    from warden import app

    try:
        asyncio.run(app.serve(_load(path, engine)))
    except app.StartError as error:
        raise click.ClickException(str(error)) from error


@main.command(epilog=examples("doctor -c warden.yml"))
@config_option
def doctor(path: str | None) -> None:
    """Say what the machine lacks for real containers, and how to get it."""
    from warden.doctor import report

    sys.exit(report(_load(path).settings()))


@main.group()
def rootfs() -> None:
    """Root file systems for containers."""


@rootfs.command(epilog=examples("rootfs build /var/lib/warden/rootfs", "rootfs build --minimal /var/lib/warden/rootfs"))
@click.argument("folder", type=click.Path())
@click.option("--minimal", is_flag=True, help="Of the host's own /usr, without downloads.")
def build(folder: str, minimal: bool) -> None:
    """Make one in FOLDER, by debootstrap."""
    from warden.engine import rootfs
    from warden.engine.api import EngineError

    try:
        rootfs.build(Path(folder).absolute(), minimal)
    except EngineError as error:
        raise click.ClickException(str(error)) from error


@main.command(epilog=examples("demo", "demo --engine insecure"))
@config_option
@click.option("--engine", type=click.Choice(_ENGINES), help="For the demo's own server, if it starts one.")
@click.pass_context
def demo(context: click.Context, path: str | None, engine: str | None) -> None:
    """Create a container, limit its memory, exceed it, see "out of memory", destroy it.

    With the server at --socket if one answers there, else with one of its own for the while."""
    from warden import demo
    from warden.engine.api import EngineError

    with context.obj.complaints():
        try:
            sys.exit(demo.play(context.obj.path, _load(path, engine), click.echo))
        except EngineError as error:
            raise click.ClickException(str(error)) from error


@request("ping", "ping")
def ping(session: Session) -> None:
    """Ask whether the server answers."""
    session.call(pb.PingRequest())
    click.echo("pong")


@request("echo", "echo hello")
@click.argument("message")
def echo(session: Session, message: str) -> None:
    """Have the server say something."""
    click.echo(session.call(pb.EchoRequest(message=message.encode())).message)


# -- life -----------------------------------------------------------------------------------------------------------


def _mount(value: str) -> pb.CreateRequest.BindMount:
    src, _, rest = value.partition(":")
    dst, _, mode = rest.partition(":")
    if not src or mode not in ("", "ro", "rw"):
        raise click.BadParameter(f"{value!r} is no bind mount; valid: SRC[:DST[:ro|rw]]")
    modes = pb.CreateRequest.BindMount
    return modes(src_path=src, dst_path=dst or src, mode=modes.RW if mode == "rw" else modes.RO)


@request("create", "create --handle app --grace-time 600", "create --bind-mount /srv/data:/data:rw")
@click.option("--handle", help="Its name; without, its id.")
@click.option("--grace-time", type=click.IntRange(0, 2**32 - 1), help="Seconds it outlives its last connection.")
@click.option("--network", help="The /30 of the pool to take, by its address.")
@click.option("--rootfs", help="A root file system other than the configured one.")
@click.option("--bind-mount", multiple=True, help="SRC[:DST[:ro|rw]], read-only without; several can be given.")
def create(session: Session, bind_mount: tuple[str, ...], **fields: Any) -> None:
    """Make a container and print its handle."""
    given = {name: value for name, value in fields.items() if value is not None}
    reply = session.call(pb.CreateRequest(bind_mounts=[_mount(value) for value in bind_mount], **given))
    click.echo(reply.handle)


@request("list", "list")
def list_(session: Session) -> None:
    """Print the handles of all containers."""
    for found in session.call(pb.ListRequest()).handles:
        click.echo(found)


def _lines(message: Any, prefix: str = "") -> None:
    for field, value in message.ListFields():
        name = prefix + field.name
        if hasattr(value, "ListFields"):
            _lines(value, f"{name}.")
        else:
            click.echo(f"{name}: {', '.join(str(item) for item in value) if field.is_repeated else value}")


@request("info", "info app")
@handle
def info(session: Session, handle: str) -> None:
    """Print what there is to know of a container, a line each."""
    _lines(session.call(pb.InfoRequest(handle=handle)))


@request("stop", "stop app", "stop app --kill --background")
@handle
@click.option("--kill", is_flag=True, help="KILL at once, without TERM before.")
@click.option("--background", is_flag=True, help="Do not wait.")
def stop(session: Session, **fields: Any) -> None:
    """End all processes of a container."""
    session.call(pb.StopRequest(**fields))


@request("destroy", "destroy app")
@handle
def destroy(session: Session, handle: str) -> None:
    """Remove a container and all that is in it."""
    session.call(pb.DestroyRequest(handle=handle))


# -- jobs -----------------------------------------------------------------------------------------------------------


def _rlimits(values: tuple[str, ...]) -> pb.ResourceLimits:
    limits = pb.ResourceLimits()
    for value in values:
        name, _, amount = value.partition("=")
        if name not in pb.ResourceLimits.DESCRIPTOR.fields_by_name or not amount.isdigit():
            valid = ", ".join(pb.ResourceLimits.DESCRIPTOR.fields_by_name)
            raise click.BadParameter(f"{value!r} is no limit; valid: NAME=NUMBER with NAME of {valid}")
        setattr(limits, name, int(amount))
    return limits


def job_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options: tuple[Any, ...] = (
        click.argument("script", nargs=-1, required=True),
        click.option("--log-tag", help="Also log the output, as warden.TAG."),
        click.option("--discard-output", is_flag=True, help="Keep no output."),
        click.option("--rlimit", "rlimits", multiple=True, help="NAME=NUMBER, as nofile=1024."),
        click.option("--privileged", is_flag=True, help="As root of the container instead of vcap."),
        handle,
    )
    for option in options:
        function = option(function)
    return function


def _job(script: tuple[str, ...], rlimits: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    text = sys.stdin.read() if script == ("-",) else " ".join(script)
    given = {name: value for name, value in fields.items() if value not in (None, False)}
    return {"script": text.encode(errors="surrogateescape"), "rlimits": _rlimits(rlimits), **given}


def _finish(reply: Any) -> None:
    _write("stdout", reply.stdout)
    _write("stderr", reply.stderr)
    _exit(reply.exit_status)


def _write(name: str, data: bytes) -> None:
    output = (sys.stderr if name == "stderr" else sys.stdout).buffer
    output.write(data)
    output.flush()


def _exit(status: int) -> None:
    if status:
        raise click.exceptions.Exit(status)


@request(
    "run",
    "run app 'id; ps ax'",
    "run app --privileged --rlimit nofile=4096 - <script.sh",
    context_settings={"ignore_unknown_options": True},
)
@job_options
def run(session: Session, **fields: Any) -> None:
    """Run a script in a container; "-" is the one on stdin."""
    _finish(session.call(pb.RunRequest(**_job(**fields))))


@request("spawn", "spawn app --log-tag web 'exec ./server'", context_settings={"ignore_unknown_options": True})
@job_options
def spawn(session: Session, **fields: Any) -> None:
    """Start a script in a container and print the job's id."""
    click.echo(session.call(pb.SpawnRequest(**_job(**fields))).job_id)


@request("link", "link app 2")
@handle
@job
def link(session: Session, **fields: Any) -> None:
    """Wait for a job and print what it wrote."""
    _finish(session.call(pb.LinkRequest(**fields)))


@request("stream", "stream app 2")
@handle
@job
def stream(session: Session, handle: str, job_id: int) -> None:
    """Print what a job wrote, and writes, until it ends."""
    status = 0
    with session.complaints():
        for reply in session.client.stream(handle, job_id):
            status = reply.exit_status
            if reply.name:
                _write(reply.name, reply.data)
    _exit(status)


# -- network, files, limits -----------------------------------------------------------------------------------------


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@request("net-in", "net-in app --container-port 8080")
@handle
@click.option("--container-port", type=click.IntRange(1, 65535), help="The same as the host's without.")
@click.option("--host-port", type=click.IntRange(1, 65535), help="One of the pool without.")
def net_in(session: Session, **fields: Any) -> None:
    """Forward a port of the host; prints HOST_PORT CONTAINER_PORT."""
    reply = session.call(pb.NetInRequest(**_given(fields)))
    click.echo(f"{reply.host_port} {reply.container_port}")


@request(
    "net-out",
    "net-out app --network 10.0.0.0/8 --port-range 8080:9080 --protocol tcp --log",
    "net-out app --protocol icmp --icmp-type 8 --icmp-code 0",
)
@handle
@click.option("--network", help="A.B.C.D, A.B.C.D/N or A.B.C.D-A.B.C.D.")
@click.option("--port", type=click.IntRange(0, 65535))
@click.option("--port-range", help="FIRST:LAST.")
@click.option("--protocol", type=click.Choice(["tcp", "udp", "icmp", "all"]))
@click.option("--icmp-type", type=int)
@click.option("--icmp-code", type=int)
@click.option("--log", is_flag=True, default=None, help="Log new connections.")
def net_out(session: Session, protocol: str | None, **fields: Any) -> None:
    """Let a container reach something outside."""
    given = _given(fields)
    if protocol is not None:
        given["protocol"] = pb.NetOutRequest.Protocol.Value(protocol.upper())
    session.call(pb.NetOutRequest(**given))


def _here(path: str) -> str:
    """A path of the host as the server needs it, whose current folder is another; a slash at its end stays."""
    return os.path.join(os.getcwd(), path)


@request("copy-in", "copy-in app ./build/ /srv/app")
@handle
@click.argument("src_path")
@click.argument("dst_path")
def copy_in(session: Session, src_path: str, **fields: Any) -> None:
    """Copy a file or a folder of the host into a container. With a slash at its end: what is in the folder."""
    session.call(pb.CopyInRequest(src_path=_here(src_path), **fields))


@request("copy-out", "copy-out app /srv/app/log ./logs --owner www-data:www-data")
@handle
@click.argument("src_path")
@click.argument("dst_path")
@click.option("--owner", help="USER:GROUP of the host to own what was copied.")
def copy_out(session: Session, dst_path: str, **fields: Any) -> None:
    """Copy a file or a folder out of a container. With a slash at its end: what is in the folder."""
    session.call(pb.CopyOutRequest(dst_path=_here(dst_path), **_given(fields)))


number = click.IntRange(0, 2**64 - 1)


@request("limit-memory", "limit-memory app 67108864", "limit-memory app")
@handle
@click.argument("limit_in_bytes", type=number, required=False)
def limit_memory(session: Session, **fields: Any) -> None:
    """Limit memory, in bytes; prints the limit that holds."""
    click.echo(session.call(pb.LimitMemoryRequest(**_given(fields))).limit_in_bytes)


@request("limit-cpu", "limit-cpu app 512")
@handle
@click.argument("limit_in_shares", type=number, required=False)
def limit_cpu(session: Session, **fields: Any) -> None:
    """Give a share of the CPU, 1024 is the usual one; prints what holds."""
    click.echo(session.call(pb.LimitCpuRequest(**_given(fields))).limit_in_shares)


@request("limit-bandwidth", "limit-bandwidth app 1048576 65536")
@handle
@click.argument("rate", type=number)
@click.argument("burst", type=number)
def limit_bandwidth(session: Session, **fields: Any) -> None:
    """Limit the network both ways: RATE in bytes/s, BURST in bytes."""
    reply = session.call(pb.LimitBandwidthRequest(**fields))
    click.echo(f"{reply.rate} {reply.burst}")


@request("limit-disk", "limit-disk app --byte 1073741824")
@handle
@click.option("--byte", type=number, help="Bytes; 0 for no limit.")
@click.option("--inode", type=number, help="Files; 0 for no limit.")
def limit_disk(session: Session, **fields: Any) -> None:
    """Limit the disk; prints what holds. With no option it changes nothing."""
    _lines(session.call(pb.LimitDiskRequest(**_given(fields))))


# -- shell ----------------------------------------------------------------------------------------------------------


@main.command(epilog=examples("shell", "shell app"))
@click.argument("handle", required=False)
@click.pass_obj
def shell(session: Session, handle: str | None) -> None:
    """Read commands, a line each, and do them on one connection.

    With HANDLE each line is a script that runs in that container; else it is a command of this program."""
    terminal = sys.stdin.isatty()
    while True:
        if terminal:
            click.echo(f"{handle or 'warden'}> ", nl=False)
        line = sys.stdin.readline()
        if not line or line.strip() in ("exit", "quit"):
            return
        if line.strip():
            _line(session, handle, line)


def _line(session: Session, handle: str | None, line: str) -> None:
    try:
        words = ["run", handle, "--", line] if handle else shlex.split(line, comments=True)
        if words == ["help"]:
            words = ["--help"]
        if words:
            main.main(args=words, prog_name="", obj=session, standalone_mode=False)
    except click.ClickException as error:
        error.show()
    except ValueError as error:
        click.echo(f"Error: {error}", err=True)
