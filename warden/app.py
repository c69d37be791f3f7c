"""Wires the parts into a server and answers signals: TERM and INT end it, USR2 drains it; containers stay.

TERM and INT also remove what the engine set up on the machine, if no container is left. A second one ends at once.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from gorouter_py.component import LEVELS, Logger, Sink
from warden import config as configuration
from warden import pools
from warden.config import Config
from warden.container import Host
from warden.engine.api import Engine, EngineError
from warden.jobs import Starter
from warden.manager import Manager, Pools
from warden.server import Server, ServerError
from warden.syslog import Syslog, SyslogSink, Tagged

_LOCK_S = 30.0  # how long the server before may take to go


class StartError(Exception):
    """The server cannot start; the text says why and what to do."""


def make_engine(config: Config, log: Logger) -> Engine:
    """The engine of the configuration. StartError where none is named and the real one cannot run."""
    kind = config.engine
    if kind == "insecure":
        from warden.engine.process import ProcessEngine

        return ProcessEngine(config.settings(), log.session("engine"))
    lacks = []
    if os.getuid() != 0:
        lacks.append("the server does not run as root")
    if shutil.which("runc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is None:
        lacks.append("runc is not installed")
    if lacks:
        raise StartError(
            f"containers cannot be isolated here: {' and '.join(lacks)}. `warden doctor` says what to install; "
            "for containers without any isolation say so: engine: insecure in the section server, or --engine insecure"
        )
    from warden.engine.runc import RuncEngine

    return RuncEngine(config.settings(), log.session("engine"))


def make_log(config: Config, syslog: Syslog) -> Logger:
    """The program's log: stdout, or the file or the system's log that the configuration names."""
    threshold = LEVELS.index(configuration.LEVELS[config.logging.level])
    if config.logging.syslog:
        return Logger(SyslogSink(syslog, config.logging.syslog, threshold), "warden")
    descriptor = 1
    if config.logging.file:
        try:
            descriptor = os.open(config.logging.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StartError(f"logging.file {config.logging.file}: {error.strerror}") from error
    return Logger(Sink(descriptor, threshold), "warden")


def make_pools(config: Config) -> Pools:
    try:
        return Pools(
            pools.networks(config.pool_network, config.network.release_delay),
            pools.ports(int(config.port.pool_start_port) or None, int(config.port.pool_size) or None),
            pools.uids(int(config.user.pool_start_uid), int(config.user.pool_size)),
        )
    except pools.PoolError as error:
        raise StartError(str(error)) from error


async def serve(config: Config) -> None:
    """Until a signal ends it. StartError if it cannot start."""
    if sys.version_info < (3, 12):
        # Waits for children by descriptor; the default of 3.11 is a thread for each.
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.get_event_loop_policy().set_child_watcher(watcher)
    syslog = Syslog(config.server.syslog_socket)
    log = make_log(config, syslog)
    for warning in config.warnings:
        log.warn("configuration", problem=warning)
    engine = make_engine(config, log)
    borrowable = make_pools(config)
    starter = Starter(engine.leaves_orphans)
    settings = config.settings()
    signals = _Signals()
    with contextlib.ExitStack() as stack:
        await _lock_depot(settings.depot, log, stack)
        host = Host(
            engine, settings.depot, log, config.server.container_rlimits.given(), int(config.server.job_output_limit),
            settings.disk_limits, lambda tag: Tagged(syslog, tag), starter,
        )  # fmt: skip
        manager = Manager(host, borrowable, settings.rootfs, config.grace_time, log)
        server = Server(manager, log)
        try:
            await engine.setup()
            await manager.start()
            stack.enter_context(_pid_file(config.server.pidfile))
            health = await _health(int(config.health_check_server.port))
            await server.listen(config.server.unix_domain_path, int(config.server.unix_domain_permissions))
        except (EngineError, ServerError, OSError) as error:
            await manager.leave()
            raise StartError(str(error)) from error
        stack.callback(_unlink, config.server.unix_domain_path)
        if engine.isolated and not settings.rootfs.is_dir():
            mend = f"warden rootfs build {settings.rootfs}, or with --minimal"
            log.warn("no-rootfs", path=str(settings.rootfs), mend=mend)
        log.info(
            "listening", path=config.server.unix_domain_path, engine=engine.name, containers=len(manager.containers)
        )
        starter.prepare()
        drain = await signals.wait()
        log.info("draining" if drain else "ending", containers=len(manager.containers))
        if health is not None:
            health.close()
        await server.drain()
        await manager.leave()
        await starter.close()
        if not drain and not manager.containers:
            try:
                await engine.teardown()
            except EngineError as error:
                log.error("something of the engine is left", reason=str(error))
        log.info("ended", containers=len(manager.containers))


class _Signals:
    """What the process is told: USR2 to drain, TERM or INT to end; the second of those ends it at once."""

    def __init__(self) -> None:
        self._told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR2, self._tell, True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._tell, False)

    def _tell(self, drain: bool) -> None:
        if not self._told.done():
            self._told.set_result(drain)
        elif not drain:
            os._exit(1)

    async def wait(self) -> bool:
        return await self._told


async def _lock_depot(depot: Path, log: Logger, stack: contextlib.ExitStack) -> None:
    """One server for a depot: waits for the one before to be gone."""
    try:
        depot.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(depot / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"server.container_depot_path {depot}: {error.strerror}") from error
    stack.callback(os.close, descriptor)
    end = asyncio.get_running_loop().time() + _LOCK_S
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if asyncio.get_running_loop().time() > end:
                raise StartError(f"another server uses the depot {depot}") from None
            if not told:
                log.info("waiting for the server before to end", depot=str(depot))
                told = True
            await asyncio.sleep(0.1)


async def _health(port: int) -> asyncio.Server | None:
    """Answers whatever comes with "200 OK": the event loop turns."""
    if not port:
        return None

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if await reader.read(1024):
                writer.write(b"HTTP/1.1 200 OK\r\n")
                await writer.drain()
        writer.close()

    try:
        return await asyncio.start_server(answer, "127.0.0.1", port)
    except OSError as error:
        raise StartError(f"health_check_server.port {port}: {error.strerror}; set another, or 0 for none") from error


@contextlib.contextmanager
def _pid_file(path: str) -> Iterator[None]:
    if not path:
        yield
        return
    try:
        Path(path).write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise StartError(f"server.pidfile {path}: {error.strerror}") from error
    try:
        yield
    finally:
        _unlink(path)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
