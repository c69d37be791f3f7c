"""The states of a container and which requests are allowed in each."""

from enum import StrEnum

from warden.errors import WardenError


class State(StrEnum):
    BORN = "born"  # has its resources, nothing runs yet
    ACTIVE = "active"
    STOPPED = "stopped"  # no process but init; files can still be copied out
    DESTROYED = "destroyed"


LIVE = (State.ACTIVE, State.STOPPED)

# link, stream and destroy ask for no state.
ALLOWED: dict[str, tuple[State, ...]] = {
    "create": (State.BORN,),
    **dict.fromkeys(("spawn", "run", "net_in", "net_out", "copy_in"), (State.ACTIVE,)),
    **dict.fromkeys(
        ("info", "copy_out", "limit_memory", "limit_cpu", "limit_bandwidth", "limit_disk", "stop"), LIVE
    ),
}  # fmt: skip


def check(action: str, state: State) -> None:
    """WardenError if `action` is not allowed in `state`."""
    allowed = ALLOWED.get(action)
    if allowed is not None and state not in allowed:
        raise WardenError(f"Container state must be one of '{', '.join(allowed)}', current state is '{state}'")
