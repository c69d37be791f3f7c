"""People who visit a shop: each comes with no cookies, keeps those it gets, and looks at a few pages.

    python -m examples.shop.users --url http://127.0.0.1:8081 --seconds 60

It prints which version answered how many people and how many requests failed. A person of whom two versions answered
is counted as moved. Ends after --seconds, or on TERM or INT.
"""

import argparse
import collections
import http.client
import random
import signal
import threading
import time
import urllib.parse

PAGES = ("/", "/cart", "/", "/cart", "/cart")
CROWD = 8  # people at a time


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8081", help="of the router")
    parser.add_argument("--host", default="shop.localhost", help="the shop's host")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=40.0, help="people a second")
    return parser.parse_args()


class Crowd:
    """CROWD threads that send people until `stop` is set; `versions`, `failed` and `moved` count them."""

    def __init__(self, url: str, host: str, rate: float) -> None:
        self.stop = threading.Event()
        self.versions: collections.Counter[str] = collections.Counter()
        self.failed: collections.Counter[str] = collections.Counter()
        self.moved = 0
        self._address = urllib.parse.urlsplit(url)
        self._host = host
        self._pause_s = CROWD / rate
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(CROWD)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        chance = random.Random(number)
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=30)
        while not self.stop.wait(self._pause_s * chance.uniform(0.5, 1.5)):
            try:
                self._visit(connection, f"Mozilla/5.0 (person {number})")
            except (OSError, http.client.HTTPException):
                connection.close()
                with self._lock:
                    self.failed["no answer"] += 1

    def _visit(self, connection: http.client.HTTPConnection, agent: str) -> None:
        jar: dict[str, str] = {}
        seen = []
        for page in PAGES:
            cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
            headers = {"Host": self._host, "User-Agent": agent, **({"Cookie": cookies} if cookies else {})}
            connection.request("GET", page, headers=headers)
            answer = connection.getresponse()
            answer.read()
            for line in answer.headers.get_all("Set-Cookie", []):
                name, _, value = line.partition(";")[0].partition("=")
                jar[name] = value
            version = answer.headers.get("X-Version", "the router")
            seen.append(version)
            if answer.status >= 500:
                with self._lock:
                    self.failed[version] += 1
        with self._lock:
            self.versions[seen[0]] += 1
            self.moved += len(set(seen)) > 1

    def __str__(self) -> str:
        with self._lock:
            people = ", ".join(f"{version} {count}" for version, count in sorted(self.versions.items()))
            failed = ", ".join(f"{version} {count}" for version, count in sorted(self.failed.items())) or "none"
        return f"people: {people or 'none'}; moved: {self.moved}; failed requests: {failed}"


def main() -> None:
    options = arguments()
    crowd = Crowd(options.url, options.host, options.rate)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: crowd.stop.set())
    crowd.start()
    until = time.monotonic() + options.seconds
    while time.monotonic() < until and not crowd.stop.wait(0.2):
        pass
    crowd.join()
    print(crowd, flush=True)


if __name__ == "__main__":
    main()
