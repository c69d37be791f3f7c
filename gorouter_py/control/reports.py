"""The component log of single requests: lines under gorouter's names, made of what the workers report.

Reports come over the workers' event rings, a portion at a time. The data plane makes only those that the log's level
shows; the level is handed on at each look, so a change acts within EVENTS_S. Lines of one kind are bounded per second:
what is held back is counted, and the next line says how many. Control thread; does not block.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from gorouter_py.component import Logger
from gorouter_py.control.messages import Registration
from gorouter_py.control.throttle import Throttle

if TYPE_CHECKING:
    from gorouter_py._fastpath import Event

EVENTS_S: Final = 0.25
EVENTS_AT_ONCE: Final = 1024
# Lines a second; a debug log is for watching, so it may show more.
LINES_PER_S: Final = {
    "endpoint_failed": 20, "select_failed": 20, "semicolon": 20, "status": 20, "request": 1000, "attempt": 1000,
}  # fmt: skip


class Source(Protocol):
    """Where the reports come from: the data plane."""

    def events(self, limit: int = ...) -> "Sequence[Event]": ...
    def set_log_level(self, level: int) -> None: ...


class Reports:
    """See the head of the file. facts: the registration behind an endpoint of a route, if it is still known."""

    def __init__(self, source: Source, log: Logger, facts: Callable[[str, int], Registration | None]) -> None:
        self._source = source
        self._log = log
        self._registry_log = log.session("registry")
        self._facts = facts
        self._throttles = {kind: Throttle(most) for kind, most in LINES_PER_S.items()}
        self._level = -1
        self.follow_level()

    @property
    def suppressed(self) -> int:
        return sum(throttle.suppressed for throttle in self._throttles.values())

    def follow_level(self) -> None:
        """Tells the data plane which reports the log would show."""
        level = self._log.sink.threshold
        if level != self._level:
            self._level = level
            self._source.set_log_level(level)

    def report(self) -> None:
        """Writes what the workers have reported, one portion per call."""
        self.follow_level()
        for event in self._source.events(EVENTS_AT_ONCE):
            held = self._throttles[event["kind"]].admit()
            if held is None:
                continue
            ids: dict[str, object] = {"trace-id": event["trace_id"], "span-id": event["span_id"]}
            if held:
                ids["suppressed"] = held
            getattr(self, f"_{event['kind']}")(event, ids)

    def _endpoint(self, event: "Event") -> dict[str, object]:
        facts = self._facts(event["text"], event["endpoint"])
        if facts is None:  # gone meanwhile
            return {"ApplicationId": "", "Addr": event["address"], "Tags": None, "RouteServiceUrl": "", "AZ": ""}
        return {
            "ApplicationId": facts.app,
            "Addr": facts.address,
            "Tags": facts.tags,
            "RouteServiceUrl": facts.route_service_url,
            "AZ": facts.availability_zone,
        }

    # -- one method per kind of report ---------------------------------------------------------------------

    def _request(self, event: "Event", ids: dict[str, object]) -> None:
        self._log.debug("vcap-request-id-header-set", **ids, VcapRequestIdHeader=event["request_id"])

    def _attempt(self, event: "Event", ids: dict[str, object]) -> None:
        if event["attempt"] == 1 and event["algorithm"] != "hash":
            self._log.debug(f"endpoint-iterator-with-{event['algorithm']}-lb-algo", **ids)
        endpoint = {"route-endpoint": self._endpoint(event)}
        self._log.debug("backend", **ids, **endpoint, attempt=event["attempt"])

    def _semicolon(self, event: "Event", ids: dict[str, object]) -> None:
        self._log.warn("deprecated-semicolon-params", **ids, vcap_request_id=event["request_id"])

    def _status(self, event: "Event", ids: dict[str, object]) -> None:
        self._log.info("status", **ids, body=event["text"])

    def _select_failed(self, event: "Event", ids: dict[str, object]) -> None:
        self._log.error("select-endpoint-failed", **ids, host=event["text"], error="No endpoints available")

    def _endpoint_failed(self, event: "Event", ids: dict[str, object]) -> None:
        endpoint = {"route-endpoint": self._endpoint(event)}
        if event["fault"] == "UP_TIMEOUT":
            self._log.error(
                "backend-request-timeout", **ids, **endpoint, error=event["error"], vcap_request_id=event["request_id"]
            )
            if event["answered"]:  # gorouter: what comes after the head is no failure of the attempt
                return
        details: dict[str, object] = {
            "vcap_request_id": event["request_id"],
            "retriable": event["retried"],
            "num-endpoints": event["endpoints"],
            "got-connection": event["connected"],
            "wrote-headers": event["wrote_head"],
            "conn-reused": event["reused"],
            "dns-lookup-time": 0,  # names are resolved before
            "dial-time": event["dial_ns"] / 1e9,
            "tls-handshake-time": 0,
            "local-address": event["local_address"],
            "fault": event["fault"],
            "uri": event["text"],
        }
        self._log.error(
            "backend-endpoint-failed", **ids, **endpoint, error=event["error"], attempt=event["attempt"], **details
        )
        if event["marked"]:
            self._registry_log.error("endpoint-marked-as-ineligible", **ids, **endpoint)
