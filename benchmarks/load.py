"""Load: wrk asks a server, and pgbench the database, as much as they answer."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.world import Database, must

WRK = shutil.which("wrk")
# in a request, what no other request has: wrk puts the run and a number there, as long as this
UNIQUE = "#" * 12
# A file has a request on each line: method, path and perhaps a body. They are asked one after the
# other, from any of them on, so that a run doesn't ask what its warm-up has asked.
SCRIPT = """
local requests, at, count, run, unique = {}, 0, 0, nil, nil

function init(arguments)
  run, unique = arguments[2], arguments[3]
  for line in io.lines(arguments[1]) do
    local method, path, body = line:match("^(%S+) (%S+) ?(.*)$")
    wrk.headers["Content-Type"] = body ~= "" and "application/json" or nil
    requests[#requests + 1] = wrk.format(method, path, nil, body ~= "" and body or nil)
  end
  at = os.time() * 7919 % #requests
end

function request()
  at = at % #requests + 1
  local asked = requests[at]
  if not asked:find(unique, 1, true) then
    return asked
  end
  count = count + 1
  return (asked:gsub(unique, string.format("%s%07d", run, count), 1))
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"answers": %d, "microseconds": %d, "p50": %f, "p99": %f, "errors": '
      .. '{"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
"""


class Figures(NamedTuple):
    """What came of a run."""

    answers: int
    rate: float  # answers a second
    p50: float = 0  # milliseconds; pgbench doesn't tell them
    p99: float = 0


class Load:
    """So much of it at a time; its files are in a directory."""

    def __init__(self, directory: Path, seconds: int) -> None:
        self.directory = directory
        self.seconds = seconds
        self.runs = 0
        self.script = directory / "load.lua"
        self.script.write_text(SCRIPT, encoding="utf-8")

    def wrk(
        self,
        requests: Path,
        port: int,
        headers: Mapping[str, str],
        connections: int,
        seconds: int | None = None,
    ) -> Figures:
        """Ask what the file says; raises WrongError if a single answer is an error."""
        self.runs += 1
        done = subprocess.run(  # noqa: S603  # the one on the path
            [
                str(WRK),
                *("-t1", f"-c{connections}", f"-d{seconds or self.seconds}", "-s", self.script),
                *(f"-H{name}: {value}" for name, value in headers.items()),
                *(f"http://127.0.0.1:{port}", "--", requests, f"{self.runs:05}", UNIQUE),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        told = json.loads(done.stdout.splitlines()[-1])
        must(not any(told["errors"].values()), f"{requests}: {told['errors']}")
        must(told["answers"], f"{requests}: no answer came")
        rate = told["answers"] / told["microseconds"] * 1e6
        return Figures(told["answers"], rate, told["p50"] / 1e3, told["p99"] / 1e3)

    def pgbench(self, database: Database, script: str, connections: int, rows: int) -> Figures:
        """Let the database run a script over and over; it may use `:rows`."""
        file = self.directory / "pgbench.sql"
        file.write_text(script, encoding="utf-8")
        done = subprocess.run(  # noqa: S603  # the wheel's program
            [
                database.server.programs / "pgbench",
                *database.server.address(),
                *("-n", "-M", "prepared", "-j", "1", "-c", str(connections)),
                *("-T", str(self.seconds), "-D", f"rows={rows}", "-f", file, database.name),
            ],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        answers, rate = re.findall(r"(?:actually processed:|tps =) ([\d.]+)", done.stdout)
        return Figures(int(answers), float(rate))
