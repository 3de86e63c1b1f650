"""The pytest plugin: `pytest --pyargs snnx_conformance --snnx-backend NAME`.

It is imported by every pytest run where snnx is installed, so it imports nothing of snnx before it
is needed. A named backend that cannot be imported is an error; a run that tested none fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

PACKAGE = "snnx_conformance."
MARK = ("snnx_conformance", "yes")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("snnx")
    group.addoption(
        "--snnx-backend",
        metavar="NAME",
        help="run the suite of snnx on this backend; all that are installed unless given",
    )
    group.addoption(
        "--snnx-xfails",
        metavar="FILE",
        help="test ids that are expected to fail, one a line, a '# reason' line above each",
    )


def _backends(config: pytest.Config) -> list[Any]:
    from snnx.backend import BackendError, backend_names, installed, load_backend

    named = config.getoption("--snnx-backend")
    if named is None:
        return [load_backend(name) for name in backend_names() if installed(name)]
    try:
        return [load_backend(name) for name in named.split(",")]
    except (BackendError, ImportError) as error:
        raise pytest.UsageError(f"--snnx-backend={named}: {error}") from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which backend is tested."""
    if config.getoption("--snnx-backend") is None:
        return []
    from snnx.ops import SPEC_HASH

    told = [f"{b.name} ({_line(b.describe())})" for b in _backends(config)]
    return [f"snnx backend: {'; '.join(told)}; spec {SPEC_HASH[:12]}"]


def _line(text: dict[str, str]) -> str:
    return ", ".join(f"{k} {v}" for k, v in text.items())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the suite's own tests their backends and cases."""
    module: Any = metafunc.module
    if not module.__name__.startswith(PACKAGE):
        return
    if "snnx_backend" in metafunc.fixturenames:
        backends = _backends(metafunc.config)
        metafunc.parametrize("snnx_backend", backends, ids=[b.name for b in backends])
    if "snnx_case" in metafunc.fixturenames:
        cases = [c for b in _backends(metafunc.config) for c in module.cases(b)]
        ids = [f"{c.backend}-{c.name}" for c in cases]
        metafunc.parametrize("snnx_case", cases, ids=ids)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the suite's tests, and those that --snnx-xfails names; strict in both directions."""
    for item in items:
        if getattr(getattr(item, "module", None), "__name__", "").startswith(PACKAGE):
            item.user_properties.append(MARK)  # travels with the report, from a worker too
    place = config.getoption("--snnx-xfails")
    if place is None:
        return
    expected = read_xfails(Path(place))
    matched = set()
    for item in items:
        if item.name in expected:
            matched.add(item.name)
            item.add_marker(pytest.mark.xfail(reason=expected[item.name], strict=True))
    unmatched = sorted(set(expected) - matched)
    if unmatched:
        raise pytest.UsageError(f"{place}: no test has the id {', '.join(unmatched)}")


def read_xfails(place: Path) -> dict[str, str]:
    """Return the reason of every test id in the file; UsageError where one has none."""
    found: dict[str, str] = {}
    reason = ""
    for number, raw in enumerate(place.read_text(encoding="utf-8").splitlines(), start=1):
        line = raw.strip()
        if line.startswith("#"):
            reason = line.lstrip("# ")
        elif line:
            if not reason:
                raise pytest.UsageError(f"{place}:{number}: {line} has no '# reason' above it")
            found[line], reason = reason, ""
    return found


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the tests of the suite that ran."""
    if report.when == "call" and not report.skipped and MARK in report.user_properties:
        _Count.tested += 1


class _Count:
    tested = 0


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of a named backend that tested nothing."""
    config = session.config
    if config.getoption("--snnx-backend") is None or hasattr(config, "workerinput"):
        return
    if config.getoption("--collect-only") or _Count.tested or session.exitstatus not in (0, 5):
        return
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line("the suite of snnx tested no backend: this run fails", red=True)
