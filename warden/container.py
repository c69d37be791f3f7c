"""One container: its state, what it has, its jobs, and who refers to it.

Whatever changes it happens one after the other, and inside `changing`, which takes the snapshot away first: a server
that dies halfway leaves none, and the next one destroys the container rather than keep half of one. Waiting for a job
is no change. A container that no connection refers to is destroyed after its grace time, by the manager.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gorouter_py.component import Logger
from warden import jobs, limits, snapshot, state
from warden.engine.api import Engine, EngineError, Flow, Info
from warden.errors import WardenError
from warden.jobs import Job, JobOptions
from warden.limits import DiskQuota
from warden.snapshot import JobRecord, Resources, Snapshot
from warden.state import State

OUT_OF_MEMORY = "out of memory"
_AGAIN_S, _TIMES = 0.2, 50  # how long the jobs of a container without processes may take to be told of
_TRIES, _TRY_S = 5, 0.1  # of removing a container


@dataclass
class Host:
    """What all containers share."""

    engine: Engine
    depot: Path
    log: Logger
    rlimits: Mapping[str, int]
    output_limit: int
    disk_limits: bool
    log_sink: Callable[[str], Callable[[str, bytes], None]]  # of a log_tag
    starter: jobs.Starter
    last_job_id: int = 0

    def next_job_id(self) -> int:
        self.last_job_id += 1
        return self.last_job_id


@dataclass(eq=False)
class Container:
    host: Host
    resources: Resources
    grace_time: float | None  # s
    on_grace_end: Callable[["Container"], None] = lambda _: None
    state: State = State.BORN
    events: list[str] = field(default_factory=list)
    jobs: dict[int, Job] = field(default_factory=dict)
    quota: DiskQuota = field(default_factory=DiskQuota)
    bandwidth: tuple[int, int] | None = None  # rate, burst
    obituary: Info | None = None  # its figures, from when it was destroyed

    def __post_init__(self) -> None:
        self.spec = self.resources.spec(self.host.depot)
        self._engine = self.host.engine
        self._log = self.host.log.session(self.resources.container_id)
        self.ending = asyncio.Lock()  # held by whoever destroys it
        self._lock = asyncio.Lock()
        self._changing = False
        self._stopping: asyncio.Task[None] | None = None
        self._references: set[object] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def handle(self) -> str:
        return self.resources.handle

    def check(self, action: str) -> None:
        """WardenError if its state does not allow a request."""
        state.check(action, self.state)

    # -- record ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def changing(self, action: str) -> AsyncIterator[None]:
        """Around whatever changes the container; checks that its state allows it."""
        self.check(action)
        async with self._lock:
            self.check(action)
            self._changing = True
            snapshot.delete(self.spec.path)
            try:
                yield
            finally:
                self._changing = False
                self.record()

    def record(self) -> None:
        """Writes the snapshot, unless a change is on its way: that writes one at its end."""
        if self._changing or self.state not in state.LIVE:
            return
        records = {
            str(job_id): JobRecord(job.supervisor_pid, job.options.discard, job.options.log_tag, job.exit_status)
            for job_id, job in self.jobs.items()
        }
        kept = {name: value for name, value in vars(self.quota).items() if value}
        if self.bandwidth:
            kept["bandwidth_rate"], kept["bandwidth_burst"] = self.bandwidth
        whole = Snapshot(self.resources, str(self.state), self.events, self.grace_time, records, kept)
        try:
            snapshot.write(self.spec.path, snapshot.SNAPSHOT, whole)
        except OSError as error:
            self._log.error("no snapshot", reason=str(error))

    # -- life -----------------------------------------------------------------------------------------------

    async def create(self) -> None:
        """Makes it. When that fails what was made of it is gone, and the error is the first one."""
        self.check("create")
        self.spec.path.mkdir(parents=True)
        try:
            snapshot.write(self.spec.path, snapshot.RESOURCES, self.resources)
            await self._engine.create(self.spec)
        except BaseException:
            self.state = State.DESTROYED
            with contextlib.suppress(EngineError):
                await asyncio.shield(self._engine.destroy(self.spec))
            raise
        self.state = State.ACTIVE
        self._engine.on_out_of_memory(self.spec, self._out_of_memory)
        self.record()

    async def restore(self, old: Snapshot) -> bool:
        """Takes up one that an earlier server made; False if it is dead."""
        self.state = State(old.state)
        self.events = list(old.events)
        flows = [snapshot.flow_of(entry) for entry in self.resources.net_out]
        if not await self._engine.restore(self.spec, flows, self.resources.net_in):
            return False
        self._engine.on_out_of_memory(self.spec, self._out_of_memory)
        quota = {name: old.limits.get(name, 0) for name in vars(DiskQuota())}
        self.quota = DiskQuota(**quota)
        if self.resources.limit_memory is not None:
            await self._engine.limit_memory(self.spec, self.resources.limit_memory)
        if self.resources.limit_cpu is not None:
            await self._engine.limit_cpu(self.spec, self.resources.limit_cpu)
        if "bandwidth_rate" in old.limits:
            self.bandwidth = (old.limits["bandwidth_rate"], old.limits["bandwidth_burst"])
            await self._engine.limit_bandwidth(self.spec, *self.bandwidth)
        if self.host.disk_limits and any(quota.values()):
            await self._engine.limit_disk(self.spec, self.quota.byte_limit, self.quota.inode_limit)
        for name, record in old.jobs.items():
            job = self._job(int(name), JobOptions(record.discard_output, record.log_tag))
            job.supervisor_pid = record.iomux_spawn_pid
            await job.adopt(record.status)
        self.record()
        return True

    async def stop(self, kill: bool = False) -> None:
        """TERM to its processes, KILL after 10 s (kill: at once); returns when they and all jobs have ended.

        One that was told before to stop is left alone."""
        self.check("stop")
        if self.state is State.STOPPED:
            return
        self.state = State.STOPPED
        self._stopping = asyncio.create_task(self._stop(kill), name=f"stop {self.handle}")
        await asyncio.wait([self._stopping])
        if not self._stopping.cancelled():
            self._stopping.result()

    async def _stop(self, kill: bool) -> None:
        async with self.changing("stop"):
            await self._processes_end(kill)

    def _running(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.ended]

    async def _processes_end(self, kill: bool) -> None:
        """Returns when no process is left and all jobs have ended."""
        for _ in range(_TIMES):
            await self._engine.stop(self.spec, kill)
            waits = [asyncio.ensure_future(job.wait()) for job in self._running()]
            if not waits:
                return
            # A job that has only just begun may not have been a process of the container yet: then once more.
            _, late = await asyncio.wait(waits, timeout=_AGAIN_S)
            for wait in late:
                wait.cancel()
        self._log.warn("jobs of a stopped container do not end", jobs=[job.job_id for job in self._running()])

    async def destroy(self) -> None:
        """Stops it, and everything of it goes. EngineError if something stays; it can be tried again then."""
        self.cancel_grace()
        if self.obituary is None:
            with contextlib.suppress(EngineError):
                self.obituary = await self._engine.info(self.spec)
        if self.state is State.ACTIVE:
            try:
                await self.stop()
            except EngineError as error:
                self._log.warn("not stopped", reason=str(error))
        elif self._stopping is not None and not self._stopping.done():
            self._stopping.cancel()  # with its patience
            await asyncio.wait([self._stopping])
        async with self._lock:
            self.state = State.DESTROYED
            snapshot.delete(self.spec.path)
            with contextlib.suppress(EngineError):
                await self._processes_end(True)
            for job in self.jobs.values():
                job.abandon()
            await self._remove()

    async def _remove(self) -> None:
        """Tries more than once: what ends may still write to a folder that goes."""
        for _ in range(_TRIES - 1):
            try:
                await self._engine.destroy(self.spec)
                return
            except EngineError as error:
                self._log.warn("not removed yet", reason=str(error))
                await asyncio.sleep(_TRY_S)
        await self._engine.destroy(self.spec)

    def _out_of_memory(self) -> None:
        if self.state is not State.ACTIVE:
            return
        self._event(OUT_OF_MEMORY)
        self._log.warn(OUT_OF_MEMORY)
        self._oom_stop = asyncio.ensure_future(self._stop_out_of_memory())

    async def _stop_out_of_memory(self) -> None:
        try:
            await self.stop()
        except (EngineError, WardenError) as error:
            self._log.warn("not stopped", reason=str(error))

    def _event(self, event: str) -> None:
        if event not in self.events:
            self.events.append(event)
        self.record()

    async def leave(self) -> None:
        """The server goes, the container stays: notes where it stands."""
        self.cancel_grace()
        for job in self.jobs.values():
            await job.detach()
        self.record()

    # -- jobs -----------------------------------------------------------------------------------------------

    def _job(self, job_id: int, options: JobOptions) -> Job:
        if options.log_tag is not None:
            options = JobOptions(options.discard, options.log_tag, self.host.output_limit,
                                 self.host.log_sink(options.log_tag))  # fmt: skip
        else:
            options = JobOptions(options.discard, None, self.host.output_limit)
        job = Job(job_id, self.spec.path / "jobs" / str(job_id), options, self._log)
        job.on_exceeded = lambda: self._event(jobs.OVER_LIMIT)
        job.on_end = self.record
        self.jobs[job_id] = job
        return job

    async def adopt_jobs(self) -> None:
        """Finds the jobs of a container that nothing is written of, so that they end with it."""
        for folder in (self.spec.path / "jobs").glob("[0-9]*"):
            await self._job(int(folder.name), JobOptions()).adopt(None)

    async def spawn(self, script: bytes, user: str, rlimits: Mapping[str, int], options: JobOptions) -> int:
        """Starts a job; its id."""
        async with self.changing("spawn"):
            job = self._job(self.host.next_job_id(), options)
            try:
                job.prepare()
                argv = self._engine.job_argv(self.spec, user, rlimits, job.folder / "pid")
                await self.host.starter.spawn(job, argv, script)
            except BaseException:
                self.jobs.pop(job.job_id, None)
                job.remove()
                raise
            return job.job_id

    def job(self, job_id: int) -> Job:
        try:
            return self.jobs[job_id]
        except KeyError:
            raise WardenError("no such job") from None

    def forget(self, job: Job) -> None:
        """A job whose end somebody has heard of."""
        if self.jobs.pop(job.job_id, None) is not None:
            job.remove()
            self.record()

    # -- network, files, limits -----------------------------------------------------------------------------

    async def net_in(self, host_port: int, container_port: int, borrowed: bool) -> int:
        """Forwards a port. borrowed: host_port is of the pool, and goes back there at the end."""
        async with self.changing("net_in"):
            container_port = await self._engine.net_in(self.spec, host_port, container_port)
            if borrowed:
                self.resources.ports.append(host_port)
            self.resources.net_in.append((host_port, container_port))
            return container_port

    async def net_out(self, flow: Flow) -> None:
        async with self.changing("net_out"):
            await self._engine.net_out(self.spec, flow)
            self.resources.net_out.append(snapshot.net_out_of(flow))

    async def copy_in(self, src: str, dst: str) -> None:
        self.check("copy_in")
        async with self._lock:
            self.check("copy_in")
            await self._engine.copy_in(self.spec, src, dst)

    async def copy_out(self, src: str, dst: str, owner: str | None) -> None:
        self.check("copy_out")
        await self._engine.copy_out(self.spec, src, dst, owner)

    async def limit_memory(self, limit: int | None) -> int:
        """Sets it (None: leaves it); what holds then, in bytes."""
        self.check("limit_memory")
        if limit is not None:
            async with self.changing("limit_memory"):
                try:
                    await self._engine.limit_memory(self.spec, limit)
                except EngineError as error:
                    raise WardenError(f"Failed setting memory limit: {error}") from error
                self.resources.limit_memory = limit
        now = (await self._engine.read_limits(self.spec)).memory
        return limits.MEMORY_UNLIMITED if now is None else now

    async def limit_cpu(self, shares: int | None) -> int:
        self.check("limit_cpu")
        if shares is not None:
            async with self.changing("limit_cpu"):
                try:
                    await self._engine.limit_cpu(self.spec, shares)
                except EngineError as error:
                    raise WardenError(f"Failed setting cpu shares: {error}") from error
                self.resources.limit_cpu = shares
        now = (await self._engine.read_limits(self.spec)).cpu_shares
        return limits.SHARES_DEFAULT if now is None else now

    async def limit_bandwidth(self, rate: int, burst: int) -> None:
        async with self.changing("limit_bandwidth"):
            await self._engine.limit_bandwidth(self.spec, rate, burst)
            self.bandwidth = (rate, burst)

    async def limit_disk(self, quota: DiskQuota) -> None:
        if quota == self.quota:
            self.check("limit_disk")
            return
        async with self.changing("limit_disk"):
            await self._engine.limit_disk(self.spec, quota.byte_limit, quota.inode_limit)
            self.quota = quota

    async def figures(self) -> Info:
        """What it uses now; of one that is gone, what it used at its end."""
        if self.state is State.DESTROYED:
            return self.obituary or Info()
        return await self._engine.info(self.spec)

    # -- who refers to it -----------------------------------------------------------------------------------

    def refer(self, connection: object) -> None:
        self._references.add(connection)
        self.cancel_grace()

    def release(self, connection: object) -> None:
        self._references.discard(connection)
        self.start_grace()

    def start_grace(self) -> None:
        """Starts the timer if nobody refers to it."""
        if self._references or self._timer is not None or self.grace_time is None or self.state is State.DESTROYED:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.grace_time, self._grace_ended)

    def cancel_grace(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _grace_ended(self) -> None:
        self._timer = None
        self._log.info("grace time is over", grace_time=self.grace_time)
        self.on_grace_end(self)
