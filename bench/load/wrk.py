"""Runs wrk and reads its figures; a Lua script makes the requests of a case and prints the result as JSON."""

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.load.cases import Case
from bench.load.procs import BenchError, prepare

# Requests are made once, before the load starts. With one host there is no Lua call per request at all.
SCRIPT = """\
local hosts, made, turn = {hosts}, {{}}, 0
local headers = {{ {headers} }}
local body = {body}
wrk.method, wrk.body, wrk.path = "{method}", body, "{target}"
for name, value in pairs(headers) do wrk.headers[name] = value end
wrk.headers["Host"] = hosts[1]
function init(args)
  for i, host in ipairs(hosts) do
    headers["Host"] = host
    made[i] = wrk.format("{method}", "{target}", headers, body)
  end
end
local function cycle()
  turn = turn % #made + 1
  return made[turn]
end
if #hosts > 1 then request = cycle end
function done(summary, latency, requests)
  io.write(string.format(
    '\\nJSON{{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,' ..
    '"p50_us":%.1f,"p90_us":%.1f,"p99_us":%.1f,"max_us":%.1f}}\\n',
    summary.requests, summary.duration, summary.bytes, summary.errors.connect, summary.errors.read,
    summary.errors.write, summary.errors.status, summary.errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
"""


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw; times in microseconds, errors by kind (status: not 2xx or 3xx)."""

    requests: int
    duration_us: int
    bytes: int
    connect: int
    read: int
    write: int
    status: int
    timeout: int
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests * 1e6 / self.duration_us

    @property
    def errors(self) -> int:
        return self.connect + self.read + self.write + self.status + self.timeout

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rate": self.rate}


def version() -> str:
    """The first line of `wrk -v`; BenchError if it is not installed."""
    try:
        done = subprocess.run(["wrk", "-v"], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BenchError("wrk is not installed") from error
    return (done.stdout or done.stderr).splitlines()[0].strip()


def write_script(case: Case, path: Path) -> Path:
    """Writes the Lua script of a case."""
    headers = ['["User-Agent"] = "wrk"', '["Accept"] = "*/*"']
    if case.close:
        headers.append('["Connection"] = "close"')
    text = SCRIPT.format(
        hosts="{" + ", ".join(f'"{host}"' for host in case.hosts()) + "}",
        headers=", ".join(headers),
        body=f'string.rep("p", {case.post_bytes})' if case.post_bytes else "nil",
        method="POST" if case.post_bytes else "GET",
        target=case.target,
    )
    path.write_text(text)
    return path


def command(case: Case, port: int, seconds: float, script: Path) -> list[str]:
    """The command line of one run."""
    url = f"http://127.0.0.1:{port}{case.target}"
    return ["wrk", "-t1", f"-c{case.connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]


def parse(text: str) -> Load:
    """Reads what the script printed. BenchError if there is nothing to read."""
    _, found, rest = text.rpartition("JSON{")
    if not found:
        raise BenchError(f"wrk printed no result:\n{text}")
    return Load(**json.loads("{" + rest.strip()))


def run(case: Case, port: int, seconds: float, script: Path, cpu: int) -> Load:
    """One run, pinned; about `seconds` long."""
    argv = command(case, port, seconds, script)
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ),
        preexec_fn=prepare([cpu]),
    ) as popen:
        try:
            text, _ = popen.communicate(timeout=seconds + 20)
        except BaseException:
            popen.kill()
            raise
    if popen.returncode:
        raise BenchError(f"{' '.join(argv)} ended with {popen.returncode}:\n{text}")
    return parse(text)
