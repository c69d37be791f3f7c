"""What each request does: from its message to the manager's words, and back into the reply.

One function for each type, found by the type of the request. `Stream` alone answers more than once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from warden import limits
from warden.container import Container
from warden.engine.api import EngineError, Info
from warden.errors import WardenError
from warden.jobs import Job, JobOptions
from warden.manager import Manager
from warden.protocol import Message, pb


class Caller(Protocol):
    """The connection a request came by."""

    gone: asyncio.Event  # its other end is closed

    async def send(self, reply: Message) -> None: ...

    def protect(self, work: Awaitable[Any]) -> Awaitable[Any]:
        """Work that goes on when the one who waits for it is cancelled."""


async def execute(manager: Manager, caller: Caller, request: Any) -> Message | None:
    """Does what a request asks for; its (last) reply. WardenError and EngineError are for the client."""
    command = _COMMANDS.get(type(request))
    if command is None:
        raise WardenError(f"Unknown request: {type(request).__name__.removesuffix('Response')}")
    if command in _WITHOUT_CONTAINER:
        return await command(manager, caller, request)
    container = manager.find(_text(request.handle))
    refer(container, caller)
    return await command(manager, caller, request, container)


def refer(container: Container, caller: Caller) -> None:
    """A connection that uses a container keeps it alive; one that is closed already does so no more."""
    if not caller.gone.is_set():
        container.refer(caller)


def _text(value: Any) -> str:
    # What is no UTF-8 comes out of protobuf as bytes.
    return value if isinstance(value, str) else bytes(value).decode(errors="surrogateescape")


# -- without a container --------------------------------------------------------------------------------------------


async def ping(manager: Manager, caller: Caller, request: pb.PingRequest) -> Message:
    return pb.PingResponse()


async def echo(manager: Manager, caller: Caller, request: pb.EchoRequest) -> Message:
    return pb.EchoResponse(message=request.message)


async def list_(manager: Manager, caller: Caller, request: pb.ListRequest) -> Message:
    return pb.ListResponse(handles=list(manager.containers))


async def create(manager: Manager, caller: Caller, request: pb.CreateRequest) -> Message:
    for text in (request.handle, request.network, request.rootfs):
        if not isinstance(text, str):
            raise WardenError(f"{bytes(text)!r} is no UTF-8")
    container: Container = await caller.protect(
        manager.create(
            handle=request.handle or None,
            grace_time=float(request.grace_time) if request.HasField("grace_time") else None,
            network=request.network or None,
            rootfs=request.rootfs or None,
            bind_mounts=[
                (mount.src_path, mount.dst_path, mount.mode == pb.CreateRequest.BindMount.RO)
                for mount in request.bind_mounts
            ],
        )
    )
    refer(container, caller)
    container.start_grace()  # should the connection be gone
    return pb.CreateResponse(handle=container.handle)


# -- life -----------------------------------------------------------------------------------------------------------


async def stop(manager: Manager, caller: Caller, request: pb.StopRequest, container: Container) -> Message:
    if request.background:
        manager.background(container.stop(request.kill), f"stop {container.handle}")
    else:
        await caller.protect(container.stop(request.kill))
    return pb.StopResponse()


async def destroy(manager: Manager, caller: Caller, request: pb.DestroyRequest, container: Container) -> Message:
    await caller.protect(manager.destroy(container))
    return pb.DestroyResponse()


async def info(manager: Manager, caller: Caller, request: pb.InfoRequest, container: Container) -> Message:
    container.check("info")
    return describe(container, await container.figures())


def describe(container: Container, figures: Info) -> pb.InfoResponse:
    reply = pb.InfoResponse(
        state=str(container.state), events=[*container.events, *figures.remarks], host_ip=container.spec.host_ip,
        container_ip=container.spec.container_ip, container_path=str(container.spec.path), job_ids=list(container.jobs),
    )  # fmt: skip
    if figures.memory_stat:
        for name, value in figures.memory_stat.items():
            setattr(reply.memory_stat, name, value)
    for name, stat in (
        ("cpu_stat", figures.cpu_stat), ("disk_stat", figures.disk_stat), ("bandwidth_stat", figures.bandwidth_stat),
    ):  # fmt: skip
        if stat is not None:
            for field, value in vars(stat).items():
                if value is not None:
                    setattr(getattr(reply, name), field, value)
    return reply


async def _last_words(container: Container) -> pb.InfoResponse:
    """The info that goes with the end of a job; without figures where there are none any more."""
    try:
        figures = await container.figures()
    except EngineError:
        figures = Info()
    return describe(container, figures)


# -- jobs -----------------------------------------------------------------------------------------------------------


async def _start(manager: Manager, caller: Caller, request: Any, container: Container) -> int:
    user = "root" if request.privileged else "vcap"
    options = JobOptions(request.discard_output, request.log_tag if request.HasField("log_tag") else None)
    rlimits = limits.rlimits(manager.host.rlimits, request.rlimits)
    job_id: int = await caller.protect(container.spawn(request.script, user, rlimits, options))
    return job_id


async def _linked(container: Container, job: Job, kind: Callable[..., Message]) -> Message:
    status = await job.wait()
    words = await _last_words(container)
    container.forget(job)
    return kind(exit_status=status, stdout=job.output("stdout"), stderr=job.output("stderr"), info=words)


async def spawn(manager: Manager, caller: Caller, request: pb.SpawnRequest, container: Container) -> Message:
    return pb.SpawnResponse(job_id=await _start(manager, caller, request, container))


async def link(manager: Manager, caller: Caller, request: pb.LinkRequest, container: Container) -> Message:
    return await _linked(container, container.job(request.job_id), pb.LinkResponse)


async def run(manager: Manager, caller: Caller, request: pb.RunRequest, container: Container) -> Message:
    job_id = await _start(manager, caller, request, container)
    return await _linked(container, container.job(job_id), pb.RunResponse)


async def stream(manager: Manager, caller: Caller, request: pb.StreamRequest, container: Container) -> Message | None:
    """None if the caller goes before the job has ended: the job stays for another."""
    job = container.job(request.job_id)
    words = await _last_words(container)
    pieces = job.pieces()
    gone = asyncio.ensure_future(caller.gone.wait())
    following: asyncio.Future[Any] = gone
    try:
        while True:
            following = asyncio.ensure_future(anext(pieces, None))
            await asyncio.wait({following, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return None
            piece = following.result()
            if piece is None:
                break
            await caller.send(pb.StreamResponse(name=piece[0], data=piece[1]))
    finally:
        gone.cancel()
        following.cancel()
    container.forget(job)
    return pb.StreamResponse(exit_status=await job.wait(), info=words)


# -- network and files ----------------------------------------------------------------------------------------------


async def net_in(manager: Manager, caller: Caller, request: pb.NetInRequest, container: Container) -> Message:
    ports = manager.net_in(container, request.host_port, request.container_port)
    host_port, container_port = await caller.protect(ports)
    return pb.NetInResponse(host_port=host_port, container_port=container_port)


async def net_out(manager: Manager, caller: Caller, request: pb.NetOutRequest, container: Container) -> Message:
    container.check("net_out")
    await caller.protect(container.net_out(limits.flow(request)))
    return pb.NetOutResponse()


async def copy_in(manager: Manager, caller: Caller, request: pb.CopyInRequest, container: Container) -> Message:
    await caller.protect(container.copy_in(request.src_path, request.dst_path))
    return pb.CopyInResponse()


async def copy_out(manager: Manager, caller: Caller, request: pb.CopyOutRequest, container: Container) -> Message:
    await caller.protect(container.copy_out(request.src_path, request.dst_path, request.owner or None))
    return pb.CopyOutResponse()


# -- limits ---------------------------------------------------------------------------------------------------------


async def limit_memory(
    manager: Manager, caller: Caller, request: pb.LimitMemoryRequest, container: Container
) -> Message:
    wanted = request.limit_in_bytes if request.HasField("limit_in_bytes") else None
    return pb.LimitMemoryResponse(limit_in_bytes=await caller.protect(container.limit_memory(wanted)))


async def limit_cpu(manager: Manager, caller: Caller, request: pb.LimitCpuRequest, container: Container) -> Message:
    wanted = request.limit_in_shares if request.HasField("limit_in_shares") else None
    return pb.LimitCpuResponse(limit_in_shares=await caller.protect(container.limit_cpu(wanted)))


async def limit_bandwidth(
    manager: Manager, caller: Caller, request: pb.LimitBandwidthRequest, container: Container
) -> Message:
    await caller.protect(container.limit_bandwidth(request.rate, request.burst))
    return pb.LimitBandwidthResponse(rate=request.rate, burst=request.burst)


async def limit_disk(manager: Manager, caller: Caller, request: pb.LimitDiskRequest, container: Container) -> Message:
    container.check("limit_disk")
    if not manager.host.disk_limits:
        return pb.LimitDiskResponse()
    await caller.protect(container.limit_disk(limits.disk_quota(container.quota, request)))
    return pb.LimitDiskResponse(**container.quota.answer())


_WITHOUT_CONTAINER = {ping, echo, list_, create}
_COMMANDS: dict[Any, Callable[..., Awaitable[Message | None]]] = {
    pb.PingRequest: ping, pb.EchoRequest: echo, pb.ListRequest: list_, pb.CreateRequest: create,
    pb.StopRequest: stop, pb.DestroyRequest: destroy, pb.InfoRequest: info,
    pb.SpawnRequest: spawn, pb.LinkRequest: link, pb.RunRequest: run, pb.StreamRequest: stream,
    pb.NetInRequest: net_in, pb.NetOutRequest: net_out, pb.CopyInRequest: copy_in, pb.CopyOutRequest: copy_out,
    pb.LimitMemoryRequest: limit_memory, pb.LimitCpuRequest: limit_cpu,
    pb.LimitBandwidthRequest: limit_bandwidth, pb.LimitDiskRequest: limit_disk,
}  # fmt: skip
# What a drain does not wait for: the job goes on, and another connection can ask for it.
INTERRUPTIBLE = (pb.LinkRequest, pb.RunRequest, pb.StreamRequest)
