"""The time to import the extension, and to the first answer of an application, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from ..lab import Lab
from ..measure import median_ratio
from ..report import Bound, Report, Table

LIMIT = 1.15
FOUNDATION = "import flask, sqlalchemy, requests_oauthlib"

_APP = """
from flask import Flask
app = Flask("cold")
app.secret_key = "a-secret-key-for-the-benchmarks"
{extension}
@app.get("/")
def page():
    return "ok"
assert app.test_client().get("/").status_code == 200
"""
BARE = "the interpreter alone"
BASE = "flask, sqlalchemy, requests_oauthlib"
NAMES = "from flask_tokenrotate import TokenRotate, current_token, require_fresh_token"
ALONE = "the names of flask_tokenrotate that an application uses"
OURS = "those three, then the names of flask_tokenrotate"
FLASK = "first answer, Flask alone"
COLD = "first answer, with the extension"
PROGRAMS = {
    BARE: "",
    BASE: FOUNDATION,
    ALONE: NAMES,
    OURS: f"{FOUNDATION}; {NAMES}",
    FLASK: FOUNDATION + _APP.format(extension=""),
    COLD: FOUNDATION + _APP.format(extension="from flask_tokenrotate import TokenRotate\nTokenRotate(app)"),
}


def measure(lab: Lab) -> Report:
    """Start each program in turn."""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for program in PROGRAMS.values():
        _milliseconds(program)
    for _ in range(lab.scaled(3 * lab.rounds, 3)):
        for name, program in PROGRAMS.items():
            times[name].append(_milliseconds(program))
    # The time that the interpreter itself takes to start is no import.
    net = {
        name: [one - bare for one, bare in zip(times[name], times[BARE], strict=True)] for name in PROGRAMS
    }
    rows = [
        [name, median(times[name]), median(net[name]), median_ratio(net[name], net[base])]
        for name, base in ((BASE, BASE), (ALONE, BASE), (OURS, BASE), (FLASK, FLASK), (COLD, FLASK))
    ]
    columns = ["", "ms", "ms without the interpreter's start", "over the one without the extension"]
    table = Table(title="A fresh interpreter", columns=columns, rows=rows, plot=2)
    bound = Bound(
        figure="import of flask, sqlalchemy, requests_oauthlib and the extension over the three alone",
        value=median_ratio(net[OURS], net[BASE]),
        limit=LIMIT,
    )
    return Report(name="imports", title="Import and cold start", tables=[table], bounds=[bound])


def _milliseconds(program: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return (time.perf_counter() - start) * 1000
