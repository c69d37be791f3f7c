"""The router as a process: builds every part, joins them, and takes them down again. The only file that constructs.

Order of start: bus and routing API (drop-in form: fatal if they cannot be reached), table and registry, snapshot and
static routes, status pages, start delay, listeners, workers. Order of stop: workers first, so that a stop is at once,
then what Python holds. Every way out goes through `Router.close`, which joins the threads of the data plane; if they
do not end in time the process leaves by os._exit, since an ordinary exit under running threads can crash.

Everything here runs on the control thread. What is done per message, per request or per page is in other files.
"""

import asyncio
import contextlib
import copy
import faulthandler
import gc
import os
import resource
import signal
import socket
import ssl
import threading
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from gorouter_py import __version__, _fastpath
from gorouter_py.component import Logger
from gorouter_py.control import (
    bus,
    dropsonde,
    error_page,
    http_client,
    listeners,
    log,
    messages,
    metrics,
    outlets,
    registry,
    reports,
    routing_api,
    snapshot,
    status,
    supervise,
    uaa,
)
from gorouter_py.control import varz as varz_page
from gorouter_py.control.app_admin import AdminSide, CannotStart
from gorouter_py.control.app_ports import RETRY_S, PortSide
from gorouter_py.control.debug import Debug
from gorouter_py.control.intake import Intake
from gorouter_py.control.keys import Config, StaticRoute
from gorouter_py.control.resolver import Resolver
from gorouter_py.control.traffic import Histogram, Taken, Traffic

NATS_ATTEMPTS: Final = 3  # gorouter: then it gives up
STOP_DEADLINE_S: Final = 5.0
RESOLVE_AT_START_S: Final = 2.0
HOUSEKEEPING_S: Final = 1.0
CONTROL_NICENESS: Final = 10  # workers have 0; needs no privilege
DRAIN_POLL_S: Final = 0.02
RESTORE_STEP: Final = 256  # endpoints published between two turns of the loop: about 1 ms
FETCH_S: Final = 15.0  # of the routing API's routes, if there is no pruning to take half of
HEAD_BYTES_MAX: Final = 1 << 20
FRESHEN_S: Final = 30.0  # a snapshot is written anew this often just because lives were extended
STATUS_HOST: Final = "127.0.0.1"
ENDING_AFTER_ROUTER: Final = ("NATSMonitor", "subscriber", "FileDescriptor")  # gorouter: the order of its group
VARZ_STEP: Final = 1000  # routes looked at between two turns of the loop: under a millisecond


class StartError(Exception):
    """The router cannot start; `message` is gorouter's log line for it."""

    def __init__(self, message: str, error: object) -> None:
        super().__init__(str(error))
        self.message = message


def run(config: Config, settings: "_fastpath.Settings", static_routes: Sequence[StaticRoute], mode: str) -> int:
    """Runs the router until it is told to stop; returns the exit code.

    mode: "gorouter" (TERM and INT stop at once, USR1 drains) or "serve" (TERM and INT drain, a second one stops).
    """
    faulthandler.enable()
    _allow_all_descriptors()
    root = log.configure(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_main(config, settings, static_routes, mode, root))


async def _main(
    config: Config, settings: "_fastpath.Settings", static_routes: Sequence[StaticRoute], mode: str, root: Logger
) -> int:
    router: Router | None = None
    code = 1
    try:
        root.info("starting")
        page = _error_page(config.html_error_template_file)
        settings = {**settings, "error_page": page, "router_ip": _local_address()}
        router = Router(config, settings, static_routes, mode, root)
        code = await router.live()
    except StartError as error:
        root.fatal(error.message, error=str(error))
    except Exception:
        root.fatal("gorouter.exited-with-failure", error=traceback.format_exc())
    finally:
        if router is not None and not await router.close():
            root.fatal("workers-did-not-stop", deadline_seconds=STOP_DEADLINE_S)
            os._exit(code)
    return code


class Router:
    """All parts of one router and their life. See the head of the file."""

    def __init__(
        self,
        config: Config,
        settings: "_fastpath.Settings",
        static_routes: Sequence[StaticRoute],
        mode: str,
        root: Logger,
    ) -> None:
        self._config = config
        self._static_routes = static_routes
        self._is_serve = mode == "serve"
        self._log = root
        self._router_log = root.session("router")
        self._identity = f"{config.index}-{uuid.uuid4()}"
        self._stopping = asyncio.Event()  # at once
        self._told = asyncio.Event()  # to end, one way or the other
        self._code = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._started = time.monotonic()
        self._workers = settings.get("workers", 1)
        self._closed = False
        self._was_stopped = False  # in order, after a start that was complete
        self._freshened = (0, time.monotonic())

        try:
            self._data_plane = _fastpath.DataPlane(settings)
        except OSError as error:
            raise StartError("error-creating-access-logger", error) from None
        except ValueError as error:
            raise StartError("initialize-router-error", error) from None
        self._outlets = outlets.Outlets(self._data_plane, config, root.session("access-grlog"))
        try:
            self._outlets.open_syslog()
        except (outlets.CannotDial, ValueError) as error:
            raise StartError("error-creating-access-logger", error) from None
        self._resolver = Resolver(root.session("registry"))
        self._registry = registry.Registry(
            self._data_plane, self._resolver, root.session("registry"), _registry_limits(config)
        )
        self._resolver.on_change = self._registry.resolved
        self._intake = Intake(self._registry, root.session("subscriber"))
        self._bus = self._make_bus()
        self._fetcher: routing_api.Fetcher | None = None
        self._snapshot = self._make_snapshot()
        self._status: status.StatusServer | None = None
        self._debug: status.StatusServer | None = None
        try:
            self._admin = AdminSide(config, root.session("admin"), self, self._data_plane, self._registry, self._bus)
        except CannotStart as error:
            raise StartError("admin-listener-error", error) from None
        self._ports = PortSide(config, self._data_plane, self._workers, self._admin.store, root.session("ports"))
        self._admin.offer(self._ports.api())
        self._traffic = Traffic(self._registry.facts)
        self._active_apps: dict[str, int] = {}  # requests by application when router.active_apps was last published
        bounds = config.prometheus.meters.route_registration_latency_histogram_buckets
        self._registrations_ms = Histogram(bounds)
        self._registry.on_added = lambda stamp_ns: self._registrations_ms.since(stamp_ns, time.time_ns())
        self._emitter: dropsonde.Emitter | None = None
        self._varz: varz_page.Varz | None = None
        self._is_healthy = False
        self._reports = reports.Reports(self._data_plane, root, self._registry.registration_of)
        self._watchdog = supervise.Watchdog(time.monotonic())

    # -- construction --------------------------------------------------------------------------------------

    def _make_bus(self) -> bus.Bus | None:
        nats = self._config.nats
        if not nats.hosts:
            return None
        try:
            tls = bus.tls_context(nats.ca_certs, nats.cert_chain, nats.private_key) if nats.tls_enabled else None
        except ssl.SSLError as error:
            raise StartError("nats-connection-error", f"nats: certificates are unfit: {error}") from None
        servers = bus.Servers(
            hosts=[(host.hostname, host.port) for host in nats.hosts],
            user=nats.user,
            password=nats.pass_,
            credentials_file=self._config.gorouter_py.nats_credentials_file,
            tls=tls,
            ping_interval_s=self._config.nats_client_ping_interval,
        )
        start = messages.encode_start(
            self._identity,
            [_local_address()],
            int(self._config.start_response_delay_interval),
            int(self._config.droplet_stale_threshold),
        )
        return bus.Bus(
            servers,
            self._log.session("nats"),
            self._intake.take,
            lambda: start,
            optional=self._config.gorouter_py.nats_optional,
            subscriber_log=self._log.session("subscriber"),
            on_closed=self._bus_closed,
        )

    def _make_fetcher(self) -> routing_api.Fetcher | None:
        config = self._config
        api, oauth = config.routing_api, config.oauth
        if not api.uri or not api.port:
            return None
        self._log.info("setting-up-routing-api")
        tokens: uaa.Tokens | uaa.NoTokens = uaa.NoTokens()
        if api.auth_disabled:
            self._log.info("using-noop-token-fetcher")
        else:
            if oauth.port <= 0:
                raise StartError("initialize-uaa-client", "tls-not-enabled: UAA client requires TLS enabled")
            try:
                tls = bus.tls_context(Path(oauth.ca_certs).read_text() if oauth.ca_certs else "")
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError, a wrong encoding a ValueError
                raise StartError("initialize-uaa-client", error) from None
            if oauth.skip_ssl_validation:
                tls.check_hostname = False
                tls.verify_mode = ssl.CERT_NONE
            tokens = uaa.Tokens(
                http_client.Client(f"https://{oauth.token_endpoint}:{oauth.port}", tls),
                oauth.client_name,
                oauth.client_secret,
                uaa.Policy(
                    config.token_fetcher_max_retries,
                    config.token_fetcher_retry_interval,
                    config.token_fetcher_expiration_buffer_time,
                ),
                self._log.session("uaa-client"),
            )
        try:
            tls = bus.tls_context(api.ca_certs, api.cert_chain, api.private_key)
        except (OSError, ValueError) as error:
            raise StartError("routing-api-connection-failed", error) from None
        return routing_api.Fetcher(
            routing_api.Api(http_client.Client(f"{api.uri}:{api.port}", tls)),
            tokens,
            self._registry,
            self._log.session("route-fetcher"),
            config.prune_stale_droplets_interval / 2 or FETCH_S,
        )

    def _make_snapshot(self) -> snapshot.Writer | None:
        path = self._config.gorouter_py.snapshot_file
        if not path:
            return None
        return snapshot.Writer(
            Path(path), self._registry.export, lambda: self._registry.changes, self._log.session("registry")
        )

    # -- life ----------------------------------------------------------------------------------------------

    async def live(self) -> int:
        """Starts, serves until told to stop, drains if told to; returns the exit code. Raises StartError."""
        self._watch_signals()
        config = self._config
        self._log.debug("local-az-set", AvailabilityZone=config.zone)
        self._log.info(
            "retrieved-isolation-segments",
            isolation_segments=config.isolation_segments,
            routing_table_sharding_mode=config.routing_table_sharding_mode,
        )
        self._open_debug()
        if max(config.max_request_header_bytes, config.max_header_bytes) > HEAD_BYTES_MAX:
            self._log.warn("innefectual-max-header-bytes-value", max=HEAD_BYTES_MAX)  # gorouter: spelled so
        await self._connect_bus(optional=False)
        if self._told.is_set():
            return self._code
        await self._set_up_routing_api()
        if self._told.is_set():
            return self._code
        self._start_dropsonde()
        await self._admin.start()
        await self._load()
        self._open_status()
        self._open_admin()
        self._open_health()
        if self._fetcher is not None:
            self._fetcher.start()
        await self._subscribe()
        self._resolver.start()
        self._every(config.prune_stale_droplets_interval, self._prune)
        await self._wait_before_listening()
        if not self._told.is_set():
            self._open_front()
            await self._ports.ports.start()
            self._every(RETRY_S, self._ports.ports.retry)
            gc.collect()
            gc.freeze()  # what was loaded stays; later collections need not look at it
            self._router_log.info("gorouter.started")
            await self._serve()
        self._router_log.info("gorouter.stopping")
        self._was_stopped = True
        return self._code

    async def close(self) -> bool:
        """Ends everything, whatever has been started. False if the data plane's threads did not end in time."""
        if self._closed:
            return True
        self._closed = True
        began = time.monotonic_ns()
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        self._ports.ports.stop()
        joined = self._data_plane.stop(STOP_DEADLINE_S)
        for name, end in (
            ("rollouts", self._admin.stop_deciding()),
            ("bus", self._bus.stop() if self._bus else None),
            ("route-fetcher", self._fetcher.stop() if self._fetcher else None),
            ("resolver", self._resolver.stop()),
            ("snapshot", self._snapshot.write(force=True) if self._snapshot and self._registry.changes else None),
            ("status", self._status.stop() if self._status else None),
            ("debug", self._debug.stop() if self._debug else None),
            ("admin", self._admin.close()),
        ):
            if end is not None:
                try:
                    await end
                except Exception:
                    self._log.error("not-stopped-cleanly", part=name, error=traceback.format_exc())
        if self._was_stopped:
            self._router_log.info("gorouter.stopped", took=time.monotonic_ns() - began)
            self._router_log.info("gorouter.exited")
            for part in ENDING_AFTER_ROUTER:
                self._log.session(part).info("exited")
        return joined

    async def _connect_bus(self, *, optional: bool) -> None:
        """Drop-in form: before anything else, and fatal. Otherwise it happens in the background, after the load."""
        if self._bus is None or self._config.gorouter_py.nats_optional != optional:
            return
        self._log.info("setting-up-nats-connection")
        if optional:
            self._bus.connect_in_background()
            return
        try:
            await self._unless_told(self._bus.connect(NATS_ATTEMPTS))
        except bus.Unreachable as error:
            raise StartError("nats-connection-error", error) from None

    async def _set_up_routing_api(self) -> None:
        """Drop-in form: fatal if there is no token or no list of routes."""
        self._fetcher = self._make_fetcher()
        if self._fetcher is None or self._config.gorouter_py.nats_optional:
            return
        try:
            await self._unless_told(self._fetcher.check())
        except http_client.RequestFailed as error:
            raise StartError("routing-api-connection-failed", error) from None

    async def _unless_told(self, work: Coroutine[Any, Any, None]) -> None:
        """Waits for work, but not longer than until we are told to end; raises what work does."""
        loop = asyncio.get_running_loop()
        working, told = loop.create_task(work), loop.create_task(self._told.wait())
        await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            return
        working.result()

    async def _subscribe(self) -> None:
        await self._connect_bus(optional=True)
        if self._bus is None:
            return
        if not self._config.gorouter_py.nats_optional:
            await self._bus.subscribe()
        await self._ports.offer(self._bus)
        if self._varz is not None:
            await self._bus.offer("vcap.component.discover", "vcap.component.announce", self.varz)
            self._router_log.info("Component Router registered successfully")

    async def _load(self) -> None:
        for route in self._static_routes:
            try:
                self._registry.add_static(route.uri, route.host, route.port)
            except ValueError as error:
                raise StartError("static-route-error", error) from None
        path = self._config.gorouter_py.snapshot_file
        if path:
            try:
                entries = snapshot.load(Path(path), self._log.session("registry"))
            except OSError as error:
                raise StartError("snapshot-error", error) from None
            wall, now = time.time(), time.monotonic()
            for number, entry in enumerate(entries, 1):
                # Never longer than a fresh registration would live, whatever the wall clock did meanwhile.
                left = min(entry.until - wall, self._config.droplet_stale_threshold)
                self._registry.restore(entry.uri, entry.registration, now + left)
                if number % RESTORE_STEP == 0:
                    await asyncio.sleep(0)
        if not await self._resolver.settled(RESOLVE_AT_START_S):
            self._log.warn("names-not-resolved-yet", seconds=RESOLVE_AT_START_S)

    async def _wait_before_listening(self) -> None:
        delay = self._config.start_response_delay_interval
        if delay > 0:
            self._router_log.debug(
                "Sleeping before returning success on /health endpoint to preload routing table",
                sleep_time_seconds=delay,
            )
            await self._sleep(delay, self._told)

    def _open_status(self) -> None:
        config = self._config
        # gorouter asks for credentials even if none are configured; `serve` on loopback without any is open.
        credentials = (config.status.user, config.status.pass_)
        guard = None if self._is_serve and not any(credentials) else credentials
        prometheus = config.prometheus
        has_metrics = prometheus.enabled or prometheus.port != 0
        metrics_port = prometheus.port or config.status.routes.port
        shared = has_metrics and metrics_port == config.status.routes.port
        # gorouter: TLS, with client certificates, if there is a port and a certificate
        files = (prometheus.cert_path, prometheus.key_path, prometheus.ca_path)
        tls = status.Tls(*files) if prometheus.port and prometheus.cert_path else None
        pages: list[status.Page] = []
        try:
            listener = listeners.open_one(STATUS_HOST, config.status.routes.port)
            pages.append(status.Page(listener, routes=True, metrics=shared, credentials=guard))
            self._router_log.info("status-listener-started", address=_address(listener), metrics=shared)
            if has_metrics and not shared:
                listener = listeners.open_one(STATUS_HOST, metrics_port)
                pages.append(status.Page(listener, metrics=True, tls=tls))
                self._router_log.info("metrics-listener-started", address=_address(listener))
            if config.status.enable_deprecated_varz_healthz_endpoints:
                listener = listeners.open_one(config.status.host, config.status.port)
                pages.append(status.Page(listener, routes=True, component=True, credentials=credentials))
                self._varz = varz_page.Varz(
                    self._identity,
                    config.index,
                    f"{config.status.host}:{config.status.port}",
                    credentials,
                    _fastpath.HISTOGRAM_BOUNDS_NS,
                    time.time(),
                )
                self._every(varz_page.TICK_S, self._tick_varz)
            self._status = status.StatusServer(pages, self)
            self._status.start()
        except (listeners.CannotListen, status.CannotServe) as error:
            listeners.close([page.listener for page in pages])
            self._status = None
            raise StartError("initialize-router-error", error) from None

    def _open_admin(self) -> None:
        try:
            self._admin.open()
        except CannotStart as error:
            raise StartError("admin-listener-error", error) from None

    def _open_debug(self) -> None:
        """gorouter: a debug server that cannot be started is no reason to end."""
        address = self._config.debug_addr
        if not address:
            return
        host, _, port = address.rpartition(":")
        try:
            listener = listeners.open_one(host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port))
        except (OSError, ValueError, OverflowError) as error:
            self._log.error("failed-to-start-debug-server", error=str(error))
            return
        self._debug = status.StatusServer([status.Page(listener, application=Debug(self._log))], self)
        self._debug.start()

    def _open_health(self) -> None:
        """Starts the workers; /health says 503 until the front door opens."""
        self._data_plane.set_health(False)
        self._data_plane.start([])
        # Where a worker and this thread share a CPU, the worker goes first: a burst of registrations can wait.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), CONTROL_NICENESS)
        self._every(HOUSEKEEPING_S, self._keep_house)
        own = self._config.status
        if own.enable_nontls_health_checks and not own.enable_deprecated_varz_healthz_endpoints:
            address = self._listen("health", self._config.status.port, "initialize-router-error")
            self._router_log.info("health-listener-started", address=address)

    def _open_front(self) -> None:
        address = self._listen("http", self._config.port, "gorouter.exited-with-failure")
        self._set_health(True)
        self._router_log.info("tcp-listener-started", address=address)
        self._router_log.info("tls-listener-not-enabled")

    def _set_health(self, healthy: bool) -> None:
        self._is_healthy = healthy
        self._data_plane.set_health(healthy)

    def _listen(self, kind: str, port: int, fault: str) -> dict[str, object]:
        """Has every worker listen on the port; returns the address for the log. StartError if it is taken."""
        try:
            sockets = listeners.open_group(self._config.gorouter_py.host, port, self._workers)
        except listeners.CannotListen as error:
            raise StartError(fault, error) from None
        address = _address(sockets[0])
        # From here on the data plane owns the descriptors.
        self._data_plane.listen(kind, [each.detach() for each in sockets])
        return address

    async def _serve(self) -> None:
        self._every(reports.EVENTS_S, self._reports.report)
        if self._bus is not None:
            self._every(self._config.publish_active_apps_interval, self._publish_active_apps)
        if self._snapshot is not None:
            self._every(self._config.gorouter_py.snapshot_interval, self._write_snapshot)
        await self._told.wait()
        if not self._stopping.is_set():
            await self._drain()

    async def _drain(self) -> None:
        """Health says 503 while all is still served, then the doors close and what is inside may end."""
        config = self._config
        self._router_log.info(
            "gorouter-draining", wait_seconds=config.drain_wait, timeout_seconds=config.drain_timeout
        )
        self._set_health(False)
        await self._sleep(config.drain_wait, self._stopping)
        if self._stopping.is_set():
            return
        active = self._data_plane.active()
        idle = max(self._data_plane.connections() - active, 0)
        self._ports.ports.stop()
        self._data_plane.close_listeners()
        self._router_log.info(f"Draining with {active} outstanding active connections")
        self._router_log.info(f"Draining with {idle} outstanding idle connections")
        end = time.monotonic() + config.drain_timeout
        while self._data_plane.active() and not self._stopping.is_set():
            if config.drain_timeout > 0 and time.monotonic() >= end:
                self._router_log.warn("router.drain.timed-out")
                self._router_log.error("gorouter-draining-error", error="router: Drain timeout")
                return
            await self._sleep(DRAIN_POLL_S, self._stopping)

    # -- what happens now and then -------------------------------------------------------------------------

    def _every(self, period_s: float, action: Callable[[], Awaitable[None] | None]) -> None:
        """Runs action each period_s seconds from now on, until the end; 0 is never. A failure is logged, not fatal."""

        async def repeat() -> None:
            while True:
                await asyncio.sleep(period_s)
                try:
                    result = action()
                    if result is not None:
                        await result
                except Exception:
                    self._log.error("housekeeping-failed", error=traceback.format_exc())

        if period_s > 0:
            self._tasks.append(asyncio.get_running_loop().create_task(repeat()))

    async def _prune(self) -> None:
        bus_up = self._bus is None or self._bus.connected
        for _ in self._registry.prune(time.monotonic(), bus_up):
            await asyncio.sleep(0)

    async def _publish_active_apps(self) -> None:
        """gorouter: which applications had requests since the last time."""
        assert self._bus is not None
        apps = self._taken().apps
        active = [app for app, count in apps.items() if count > self._active_apps.get(app, 0)]
        if await self._bus.publish("router.active_apps", messages.encode_active_apps(active)):
            self._active_apps = dict(apps)

    def _keep_house(self) -> None:
        now = time.monotonic()
        self._data_plane.reclaim()
        self._outlets.look()
        self._registry.drop_empty(now)
        stuck = self._watchdog.stuck(self._data_plane.turns(), now)
        if stuck:
            supervise.abort(self._log, stuck, self._data_plane.set_health)

    async def _write_snapshot(self) -> None:
        assert self._snapshot is not None
        refreshed, now = self._registry.counts.refreshed, time.monotonic()
        stale = refreshed != self._freshened[0] and now - self._freshened[1] >= FRESHEN_S
        if stale:
            self._freshened = (refreshed, now)
        await self._snapshot.write(force=stale)

    async def _sleep(self, seconds: float, until: asyncio.Event) -> None:
        """Sleeps, or returns early when the event is set."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), seconds)

    # -- signals -------------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop, "terminated")
        loop.add_signal_handler(signal.SIGINT, self._on_stop, "interrupt")
        loop.add_signal_handler(signal.SIGUSR1, self._on_drain, "user defined signal 1")
        if self._is_serve:  # gorouter: never reopens its log, and ends on HUP
            loop.add_signal_handler(signal.SIGHUP, self._data_plane.reopen_log)

    def _on_stop(self, name: str) -> None:
        if self._told.is_set():
            if self._is_serve:
                self._stopping.set()
            else:
                self._router_log.info("gorouter.signal.ignored", signal=name)
            return
        if not self._is_serve:
            self._stopping.set()
        self._told.set()

    def _on_drain(self, name: str) -> None:
        if self._told.is_set():
            self._router_log.info("gorouter.signal.ignored", signal=name)
        self._told.set()

    def _bus_closed(self) -> None:
        self._code = 1
        self._stopping.set()
        self._told.set()

    # -- what the status pages show ------------------------------------------------------------------------

    def keys(self) -> list[str]:
        return self._registry.keys()

    def rows(self, keys: Sequence[str]) -> dict[str, list[dict[str, object]]]:
        return self._registry.rows(keys)

    def healthy(self) -> bool:
        return self._is_healthy

    def _taken(self) -> Taken:
        return self._traffic.take(self._data_plane.series(), len(_fastpath.HISTOGRAM_BOUNDS_NS) + 1)

    def _since_update_ms(self) -> float | None:
        latest = self._registry.last_update
        return None if latest is None else (time.monotonic() - latest) * 1e3

    def _tick_varz(self) -> None:
        assert self._varz is not None
        self._varz.tick(self._data_plane.counters()["attempts"], self._taken(), time.monotonic())

    async def varz(self) -> bytes:
        """The page of the deprecated component."""
        assert self._varz is not None
        addresses: set[str] = set()
        keys = self._registry.keys()
        for start in range(0, len(keys), VARZ_STEP):
            addresses.update(facts.address for _, facts in self._registry.facts(keys[start : start + VARZ_STEP]))
            await asyncio.sleep(0)
        counters = self._data_plane.counters()
        moment = varz_page.Moment(
            requests=counters["attempts"],
            bad_requests=counters["rejected_requests"],
            bad_gateways=counters["bad_gateways"],
            urls=self._registry.routes,
            droplets=len(addresses),
            since_update_ms=self._since_update_ms(),
        )
        return self._varz.document(moment, self._taken(), time.monotonic() - self._started)

    # -- dropsonde -----------------------------------------------------------------------------------------

    def _start_dropsonde(self) -> None:
        """Metrics by UDP: gorouter's form alone sends them unasked."""
        config = self._config
        try:
            self._outlets.open_metron(dropsonde.connect)
            if not config.enable_envelope_v1_metrics:
                return
            self._emitter = dropsonde.Emitter(config.logging.metron_address)
        except dropsonde.CannotInitialize as error:
            raise StartError("dropsonde-initialize-error", error) from None
        self._batch = dropsonde.Batch(self._emitter, latencies=config.per_request_metrics_reporting)
        self._every(dropsonde.UPTIME_S, self._send_uptime)
        self._every(dropsonde.BATCH_S, self._send_batch)
        self._every(config.prune_stale_droplets_interval, self._send_routes)

    def _send_uptime(self) -> None:
        assert self._emitter is not None
        self._emitter.value("uptime", float(int(time.monotonic() - self._started)), "seconds")

    async def _send_batch(self) -> None:
        assert self._emitter is not None
        counts, taken = self._registry.counts, self._taken()
        found = dropsonde.totals(self._data_plane.counters(), taken, counts.by_component, counts.pruned)
        muzzled = time.monotonic() - self._started < self._config.route_latency_metric_muzzle_duration
        if self._fetcher is not None:
            found["token_fetch_errors"] = self._fetcher.counts.token_fetch_errors
            found["subscribe_events_errors"] = self._fetcher.counts.subscribe_events_errors
        self._batch.flush(found, taken, self._registrations_ms, muzzled=muzzled, meters=self._data_plane.meters())
        if self._bus is not None:
            self._emitter.value("buffered_messages", float(self._bus.pending), "message")
            self._emitter.value("total_dropped_messages", float(self._bus.dropped), "message")
        self._emitter.value("file_descriptors", float(await asyncio.to_thread(dropsonde.open_descriptors)), "file")

    def _send_routes(self) -> None:
        assert self._emitter is not None
        since = self._since_update_ms()
        self._emitter.value("total_routes", float(self._registry.routes), "")
        self._emitter.value("ms_since_last_registry_update", -1.0 if since is None else float(int(since)), "ms")

    # -- /metrics ------------------------------------------------------------------------------------------

    def readings(self) -> metrics.Readings:
        """All numbers of this moment."""
        counts, known = self._registry.counts, self._registry
        totals = {
            "registry_messages_invalid": self._intake.invalid,
            "registrations_rejected": counts.rejected,
            "unregistry_messages": counts.unregistered,
            "routes_pruned": counts.pruned,
            "tls_endpoints_unsupported": counts.tls_endpoints_unsupported,
            "route_services_unsupported": counts.route_services_unsupported,
            "failure_lines_suppressed": self._reports.suppressed,
            "log_lines_dropped": self._log.sink.dropped,
        }
        since_update_ms = self._since_update_ms()
        since = -1.0 if since_update_ms is None else since_update_ms
        gauges = {
            "routes": known.routes,
            "endpoints": known.endpoints,
            "ms_since_last_registry_update": since,
            "uptime_seconds": time.monotonic() - self._started,
        }
        if self._bus is not None:
            totals |= {
                "nats_messages": self._bus.messages,
                "nats_dropped_messages": self._bus.dropped,
                "nats_reconnects": self._bus.reconnects,
            }
            gauges |= {"nats_connected": self._bus.connected, "nats_pending_messages": self._bus.pending}
        if self._fetcher is not None:
            totals["token_fetch_errors"] = self._fetcher.counts.token_fetch_errors
            totals["subscribe_events_errors"] = self._fetcher.counts.subscribe_events_errors
        if self._snapshot is not None:
            totals["snapshot_failures"] = self._snapshot.failures
            gauges["snapshot_written_timestamp_seconds"] = self._snapshot.last_written or 0
        if self._emitter is not None:
            totals |= {"dropsonde_datagrams": self._emitter.sent, "dropsonde_failures": self._emitter.failed}
        totals |= self._data_plane.outlets()
        series = self._data_plane.series()
        return metrics.Readings(
            counters=self._data_plane.counters(),
            series=series,
            bounds_ns=_fastpath.HISTOGRAM_BOUNDS_NS,
            totals=totals,
            gauges=gauges,
            actions={
                "added": counts.added,
                "updated": counts.updated + counts.refreshed,
                "unmodified": counts.unmodified,
            },
            info={"version": __version__, "build": _fastpath.BUILD},
            rollouts=self._admin.rollouts.readings(),
            decisions=self._admin.rollouts.decisions,
            gorouter=self._gorouter_readings(series, since),
        )

    def _gorouter_readings(self, series: "Sequence[_fastpath.Series]", since_update_ms: float) -> metrics.Gorouter:
        config, counts = self._config, self._registry.counts
        meters, meters_now = config.prometheus.meters, self._data_plane.meters()
        assert self._status is not None
        return metrics.Gorouter(
            taken=self._traffic.take(series, len(_fastpath.HISTOGRAM_BOUNDS_NS) + 1),
            messages=dict(counts.by_component),
            registrations_ms=copy.deepcopy(self._registrations_ms),
            routes=self._registry.routes,
            routes_pruned=counts.pruned,
            since_update_ms=since_update_ms,
            buffered_messages=self._bus.pending if self._bus is not None else 0,
            dropped_messages=self._bus.dropped if self._bus is not None else 0,
            descriptors=dropsonde.open_descriptors,
            errors=dict(self._status.metric_errors),
            lookup_ns=Histogram.measured(meters_now["lookup_time"], 1) if meters_now else None,
            gorouter_s=Histogram.measured(meters_now["gorouter_time"], 1_000_000_000) if meters_now else None,
            latency_bounds_ms=(
                meters.routing_response_latency_histogram_buckets if config.per_request_metrics_reporting else ()
            ),
            http_latency_bounds_s=(
                meters.http_latency_histogram_buckets if config.per_app_prometheus_http_metrics_reporting else ()
            ),
        )


def _registry_limits(config: Config) -> registry.Limits:
    return registry.Limits(
        stale_s=config.droplet_stale_threshold,
        suspend_pruning=config.suspend_pruning_if_nats_unavailable,
        keep_empty_s=config.empty_pool_timeout if config.empty_pool_response_code_503 else 0.0,
        sharding_mode=config.routing_table_sharding_mode,
        isolation_segments=frozenset(config.isolation_segments),
        zone=config.zone,
        tags=outlets.wants_tags(config),
    )


def _error_page(path: str) -> list[error_page.Step]:
    """The operator's HTML error page, if there is one. StartError if it cannot be used."""
    try:
        return error_page.load_page(path) if path else []
    except (OSError, error_page.TemplateError) as error:
        raise StartError("new-html-error-template-from-file", error) from None


def _address(listener: socket.socket) -> dict[str, object]:
    """The local address as Go logs one."""
    host, port = listener.getsockname()[:2]
    return {"IP": host, "Port": port, "Zone": ""}


def _local_address() -> str:
    """Our address as others see it: that of a socket towards the outside (nothing is sent), else loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 80))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _allow_all_descriptors() -> None:
    """Two sockets per request need more than the usual soft limit of 1024 (Go raises it too)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
