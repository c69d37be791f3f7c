"""The engine without isolation: a container is a folder, a job a process with the rights of the server.

For machines where the real engine cannot run. Nothing is enforced: limits are kept and shown, network rules and bind
mounts are taken and ignored, files and other processes of the machine are open to every job, and a forwarded port is
the port itself. Processes are found by the HOME they were started with, and by the sessions of those.
"""

import asyncio
import os
import pwd
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gorouter_py.component import Logger
from warden.engine.api import CpuStat, EngineError, Flow, Info, Limits, Settings, Spec

PATIENCE_S = 10.0  # between TERM and KILL
_PATHS = {False: "/bin:/usr/bin", True: "/sbin:/bin:/usr/sbin:/usr/bin"}


class ProcessEngine:
    name = "insecure"
    isolated = False
    leaves_orphans = False

    def __init__(self, settings: Settings, log: Logger) -> None:
        self._settings = settings
        self._log = log
        self._limits: dict[str, Limits] = {}

    async def setup(self) -> None:
        self._log.warn(
            "THE INSECURE ENGINE ISOLATES NOTHING: jobs see all files and processes of this machine, run as the "
            "server's user and use its network; limits on memory, CPU, disk, bandwidth and network are not enforced",
            user=pwd.getpwuid(os.getuid()).pw_name,
        )
        self._settings.depot.mkdir(parents=True, exist_ok=True)

    async def teardown(self) -> None:
        """Setup made nothing that has to go."""

    async def create(self, spec: Spec) -> None:
        try:
            _home(spec).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(f"{error.strerror}: {error.filename}") from error
        self._limits[spec.container_id] = Limits()

    async def restore(self, spec: Spec, flows: Sequence[Flow], ports: Sequence[tuple[int, int]]) -> bool:
        self._limits[spec.container_id] = Limits()
        return _home(spec).is_dir()

    async def leftovers(self) -> set[str]:
        return {
            Path(home).parent.name
            for _, home in _homes()
            if Path(home).parent.parent == self._settings.depot and Path(home).name == "root"
        }

    def job_argv(self, spec: Spec, user: str, rlimits: Mapping[str, int], pid_file: Path) -> list[str]:
        privileged = user == "root"
        me = pwd.getpwuid(os.getuid()).pw_name
        environment = [
            f"HOME={_home(spec)}", f"USER={me}", f"PATH={_PATHS[privileged]}",
            f"LANG={os.environ.get('LANG', 'en_US.UTF-8')}",
        ]  # fmt: skip
        start = 'echo $$ >"$1" && cd "$2" && shift 2 && exec "$@"'
        limits = [f"--{name}={value}:{value}" for name, value in _allowed(rlimits).items()]
        return [
            "/bin/sh", "-c", start, "sh", str(pid_file), str(_home(spec)),
            "prlimit", *limits, "env", "-i", *environment, "/bin/bash",
        ]  # fmt: skip

    async def stop(self, spec: Spec, kill: bool) -> None:
        end = time.monotonic() + (0.0 if kill else PATIENCE_S)
        last_term = 0.0
        while processes := list(_processes(spec)):
            now = time.monotonic()
            number = signal.SIGKILL if now >= end else signal.SIGTERM
            if number == signal.SIGKILL or now - last_term >= 1.0:
                last_term = now
                for pid in processes:
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        continue
            await asyncio.sleep(0.02)

    async def destroy(self, spec: Spec) -> None:
        await self.stop(spec, True)
        self._limits.pop(spec.container_id, None)
        try:
            await asyncio.to_thread(shutil.rmtree, spec.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise EngineError(f"{error.strerror}: {error.filename}") from error

    async def net_in(self, spec: Spec, host_port: int, container_port: int) -> int:
        return host_port

    async def net_out(self, spec: Spec, flow: Flow) -> None:
        """Everything may go out as it is."""

    async def copy_in(self, spec: Spec, src: str, dst: str) -> None:
        await _copy(src, dst, _home(spec))

    async def copy_out(self, spec: Spec, src: str, dst: str, owner: str | None) -> None:
        await _copy(src, dst, _home(spec))
        if owner:
            inside = _home(spec) / dst
            await _run("chown", "-R", owner, "--", str(inside))

    async def limit_memory(self, spec: Spec, limit: int) -> None:
        self._keep(spec, memory=limit)

    async def limit_cpu(self, spec: Spec, shares: int) -> None:
        self._keep(spec, cpu_shares=shares)

    async def limit_bandwidth(self, spec: Spec, rate: int, burst: int) -> None:
        self._keep(spec, bandwidth_rate=rate, bandwidth_burst=burst)

    async def limit_disk(self, spec: Spec, byte: int | None, inode: int | None) -> None:
        if byte is not None:
            self._keep(spec, disk_bytes=byte or None)
        if inode is not None:
            self._keep(spec, disk_inodes=inode or None)

    def _keep(self, spec: Spec, **values: int | None) -> None:
        self._limits[spec.container_id] = replace(self._limits.get(spec.container_id, Limits()), **values)

    async def read_limits(self, spec: Spec) -> Limits:
        return self._limits.get(spec.container_id, Limits())

    async def info(self, spec: Spec) -> Info:
        user = system = resident = 0
        for pid in _processes(spec):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended meanwhile
            user, system, resident = user + int(fields[11]), system + int(fields[12]), resident + int(fields[21])
        ticks = os.sysconf("SC_CLK_TCK")
        usage = (user + system) * 1_000_000_000 // ticks
        rss = resident * resource.getpagesize()
        return Info({"rss": rss, "total_rss": rss}, CpuStat(usage, user, system))

    def on_out_of_memory(self, spec: Spec, callback: Callable[[], None]) -> None:
        """Never happens to a container here: it has no memory of its own."""


def _home(spec: Spec) -> Path:
    return spec.path / "root"


def _allowed(rlimits: Mapping[str, int]) -> dict[str, int]:
    """The limits, none above what this process may set."""
    found = {}
    for name, value in rlimits.items():
        constant = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if constant is None:  # locks: of the past, nothing to ask for
            continue
        hard = resource.getrlimit(constant)[1]
        found[name] = value if hard == resource.RLIM_INFINITY else min(value, hard)
    return found


def _homes() -> Iterator[tuple[int, str]]:
    """(pid, HOME it was started with) of all processes that let themselves be looked at."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            for entry in environment.split(b"\0"):
                if entry.startswith(b"HOME="):
                    yield int(name), os.fsdecode(entry[5:])


def _processes(spec: Spec) -> Iterator[int]:
    """Pids of a container that are not zombies."""
    home = str(_home(spec))
    marked = {pid for pid, found in _homes() if found == home}
    if not marked:
        return
    sessions: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                state, _, _, session = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if state not in "ZX":
                sessions[int(name)] = int(session)
    ours = {sessions[pid] for pid in marked if pid in sessions}
    yield from (pid for pid, session in sessions.items() if pid in marked or session in ours)


async def _copy(src: str, dst: str, folder: Path) -> None:
    """As `rsync -r -p --links`, relative paths below `folder`."""
    source, target = folder / src, folder / dst
    whole = source.is_dir() and not src.endswith("/")
    if dst.endswith("/") or source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
    from_ = f"{source}/." if source.is_dir() and not whole else str(source)
    await _run("cp", "-R", "-P", "--preserve=mode", "--", from_, str(target) + ("/" if target.is_dir() else ""))


async def _run(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        raise EngineError("command exited with failure: " + said.decode(errors="replace").strip())
