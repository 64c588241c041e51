"""Outside requests: jobs of RQ, Celery and `multiprocessing` redeem once, and leave nothing behind."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask

from flask_tokenrotate import TokenRotate
from flask_tokenrotate.testing import FakeProvider
from tests.conftest import available
from tests.servers import Unavailable
from tests.servers.processes import ROOT, ServerProcess, find_binary
from tests.servers.rows import grant_row, set_remaining
from tests.servers.web import settings

JOBS = 4
AHEAD = 200.0
"""Seconds that a token lives for which is fresh, but in the ahead window."""

TAKES = 0.5
"""Seconds that pass after the provider has spent the refresh token, until it responds."""

Facts = Mapping[str, Any]
Run = Callable[[str, Mapping[str, str], Path, str], list[Facts]]


def in_multiprocessing(grant: str, environment: Mapping[str, str], folder: Path, broker: str) -> list[Facts]:
    """Get the token in forked children of one process."""
    command = [sys.executable, "-m", "tests.servers.jobs", grant, str(JOBS)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_rq(grant: str, environment: Mapping[str, str], folder: Path, broker: str) -> list[Facts]:
    """Get the token in work horses, which RQ's workers fork for each job."""
    need("rq")
    from rq import Queue

    binary = find_binary("rq", str(Path(sys.executable).parent))
    with redis.Redis.from_url(broker) as connection, ExitStack() as stack:
        queue = Queue(f"tokenrotate-{uuid.uuid4().hex}", connection=connection)
        stack.callback(queue.delete, delete_jobs=True)
        jobs = [queue.enqueue("tests.servers.jobs.get_token", grant, result_ttl=60) for _ in range(JOBS)]
        command = [binary, "worker", "--burst", "--url", broker, queue.name]
        workers = [
            subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)
        ]
        for worker in workers:
            assert worker.wait(60) == 0
        return [result_of(job) for job in jobs]


def result_of(job: Any) -> Facts:
    """Return what a job of RQ has returned."""
    result = job.latest_result()
    assert result is not None, "the job has not run"
    assert result.type is result.Type.SUCCESSFUL, result.exc_string
    facts: Facts = result.return_value
    job.delete()
    return facts


def in_celery(grant: str, environment: Mapping[str, str], folder: Path, broker: str) -> list[Facts]:
    """Get the token in the children of a prefork worker."""
    need("celery")
    from tests.servers.celery_jobs import TASK, celery_app

    queue = f"tokenrotate-{uuid.uuid4().hex}"
    command = [sys.executable, "-m", "tests.servers.celery_jobs", f"--concurrency={JOBS}"]
    variables = {**environment, "BROKER": broker, "QUEUE": queue, "PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        stack.callback(delete_keys, broker, queue)
        worker = ServerProcess(None, command, folder / "celery.log", environment=variables)
        stack.callback(worker.kill_group)
        app = stack.enter_context(celery_app(broker, queue))
        results = [app.send_task(TASK, [grant]) for _ in range(JOBS)]
        return [result.get(timeout=60) for result in results]


def delete_keys(broker: str, prefix: str) -> None:
    """Delete what a queue has left."""
    with redis.Redis.from_url(broker) as connection:
        for key in connection.scan_iter(f"{prefix}*"):
            connection.delete(key)


def need(module: str) -> None:
    """Raise `Unavailable` where a module is not installed."""
    if importlib.util.find_spec(module) is None:
        raise Unavailable(f"{module} is not installed (the extra servers)")


RUNNERS: Sequence[Any] = [
    pytest.param(in_multiprocessing, id="multiprocessing"),
    pytest.param(in_rq, id="rq", marks=[pytest.mark.long, pytest.mark.engine]),
    pytest.param(in_celery, id="celery", marks=[pytest.mark.long, pytest.mark.engine]),
]


@dataclass(frozen=True)
class Jobs:
    """A user's grant, their provider, and where jobs run that need its token."""

    provider: FakeProvider
    database: str
    grant: str
    folder: Path
    broker: str
    environment: Mapping[str, str]

    def run(self, runner: Run, more: Mapping[str, str] | None = None) -> list[Facts]:
        """Return what the jobs have got."""
        environment = {**os.environ, **self.environment, **(more or {})}
        return available(lambda: runner(self.grant, environment, self.folder, self.broker))


@contextmanager
def signed_in(folder: Path, broker: str) -> Iterator[Jobs]:
    """Store a user's tokens for the jobs."""
    database = f"sqlite:///{folder}/grants.sqlite3"
    with FakeProvider(after_seconds=TAKES) as provider:
        environment = {"INSTANCE": str(folder), **settings(database, {"fake": provider.registration()})}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            app, rotate = Flask(__name__, instance_path=str(folder)), TokenRotate()
            app.config.from_prefixed_env()
            rotate.init_app(app)
        with app.app_context():
            grant = rotate.adopt("fake", provider.mint(expires_in=3600), user_id="alice").id
        yield Jobs(provider, database, grant, folder, broker, environment)


@pytest.fixture
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jobs]:
    """A grant, with a broker where the runner of the test has one."""
    has_broker = request.node.get_closest_marker("engine") is not None
    broker = request.getfixturevalue("redis_url") if has_broker else ""
    with signed_in(tmp_path, broker) as jobs:
        yield jobs


@pytest.mark.long
@pytest.mark.parametrize("runner", RUNNERS)
def test_jobs_that_need_an_expired_token_redeem_once(runner: Run, jobs: Jobs) -> None:
    """Several at once, in processes of their own: all get the one new token."""
    set_remaining(jobs.database, jobs.grant, -1)
    found = jobs.run(runner)
    assert [facts["version"] for facts in found] == [1] * JOBS
    assert jobs.provider.outcomes() == {"rotated": 1}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_job_waits_for_the_end_of_a_rotation_ahead(runner: Run, jobs: Jobs) -> None:
    """When the jobs have ended the new token is saved, no claim stands, and no thread is left."""
    set_remaining(jobs.database, jobs.grant, AHEAD)
    found = jobs.run(runner)
    assert 1 in {facts["version"] for facts in found}
    assert {facts["rotation_threads"] for facts in found} == {0}
    row = grant_row(jobs.database, jobs.grant)
    assert (row.token_version, row.claim_holder) == (1, None)
    assert jobs.provider.outcomes() == {"rotated": 1}


@pytest.mark.parametrize("runner", RUNNERS[:2])
def test_a_job_that_waits_for_nothing_loses_the_new_token(runner: Run, jobs: Jobs) -> None:
    """The control: the process is gone before the response, and with it the only copy of the tokens."""
    set_remaining(jobs.database, jobs.grant, AHEAD)
    has_spent = jobs.folder / "the-refresh-token-is-spent"
    with jobs.provider.hold("processed") as gate, ThreadPoolExecutor() as threads:
        ended = threads.submit(jobs.run, runner, {"LEAVE_TO_THREADS": str(has_spent)})
        gate.wait_for(1, timeout=30)
        has_spent.touch()
        found = ended.result()
    assert {facts["version"] for facts in found} == {0}
    assert 1 in {facts["rotation_threads"] for facts in found}
    assert jobs.provider.outcomes() == {"rotated": 1}
    row = grant_row(jobs.database, jobs.grant)
    assert row.token_version == 0
    assert row.claim_holder is not None
