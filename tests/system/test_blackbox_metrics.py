"""gorouter's own suite, played in Python: the latency of registrations by dropsonde, but not before its time."""

import socket
import threading
import time
from pathlib import Path

from google.protobuf import message

from tests.support import envelopes
from tests.system.blackbox import Gorouter, spec
from tests.system.harness import NatsServer, until

AGE_S = 10  # the messages say that their endpoints changed so long ago


def test_registration_latencies_come_after_their_muzzle(tmp_path: Path) -> None:
    values: list[float] = []
    with NatsServer() as bus, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as metron:
        metron.bind(("127.0.0.1", 0))

        def listen() -> None:
            while datagram := metron.recv(65536):
                try:
                    told = envelopes.read(datagram)
                except (message.DecodeError, AssertionError):
                    continue  # of another kind; test_metrics_names reads all that are sent
                if told.valueMetric.name == "route_registration_latency":
                    values.append(told.valueMetric.value)

        reader = threading.Thread(target=listen)
        reader.start()
        config = spec([bus.port])
        config["logging"]["metron_address"] = f"127.0.0.1:{metron.getsockname()[1]}"
        config["route_latency_metric_muzzle_duration"] = "2s"
        try:
            with Gorouter(config, tmp_path) as router:
                port = iter(range(5000, 9000))

                def register() -> None:
                    """Another endpoint of a name that is none, as the suite has it."""
                    bus.publish("router.register", {
                        "host": "127.0.0.1", "port": next(port), "uris": ["http://something"], "app": "0",
                        "stale_threshold_in_seconds": 1, "endpoint_updated_at_ns": time.time_ns() - AGE_S * 10**9,
                    })  # fmt: skip

                begun = time.monotonic()
                register()
                until(lambda: router.has_route("http://something"))
                assert not values or time.monotonic() - begun > 1, "before its time"
                until(lambda: values or register())
                print(f"after {time.monotonic() - begun:.1f} s")
                assert AGE_S * 1000 <= values[0] <= (AGE_S + 60) * 1000
                router.terminates()
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ends:
                ends.sendto(b"", metron.getsockname())
            reader.join(60)
