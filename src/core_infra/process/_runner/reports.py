"""Reports of a run for other programs: JSON, JUnit XML, and a trace for a browser."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from core_infra.process._runner.results import RunAllResult, RunResult

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold in any form."""


def to_json(result: RunAllResult) -> str:
    """All results as one JSON object; see ``docs/runner.md``."""
    return json.dumps(
        {
            "success": result.success,
            "acceptable": result.acceptable,
            "interrupted": result.interrupted,
            "duration": round(result.duration, 6),
            "passed": result.passed,
            "failed": result.failed,
            "skipped": result.skipped,
            "results": [_plain(one) for one in result.results],
        },
        indent=2,
    )


def to_junit(result: RunAllResult, suite: str = "core-infra") -> str:
    """All results as JUnit XML, as CI servers read it.

    An allowed failure becomes a skipped test with the reason as its message: that is the only kind
    of result that is neither success nor failure.

    Args:
        result: the results.
        suite: the name of the test suite.
    """
    allowed = sum(one.failed and one.spec.allow_failure for one in result.results)
    attributes = {
        "name": suite,
        "tests": str(len(result.results)),
        "failures": str(result.failed - allowed),
        "errors": "0",
        "skipped": str(result.skipped + allowed),
        "time": f"{result.duration:.3f}",
    }
    root = ET.Element("testsuites", attributes)
    element = ET.SubElement(root, "testsuite", attributes)
    for one in result.results:
        element.append(_case(one, suite))
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text.decode() + "\n"


def to_trace(result: RunAllResult) -> str:
    """When each spec ran, for ``chrome://tracing``, Perfetto and speedscope.

    The specs are laid out in as few lanes as were busy at once.
    """
    ran = sorted((one for one in result.results if not one.skipped), key=lambda one: one.started)
    free_from: list[float] = []
    events: list[dict[str, Any]] = []
    for one in ran:
        lanes = (lane for lane, free in enumerate(free_from) if free <= one.started)
        lane = next(lanes, len(free_from))
        free_from[lane : lane + 1] = [one.started + one.duration]
        events.append(
            {
                "name": one.name,
                "cat": "passed" if one.passed else "failed",
                "ph": "X",  # a complete event: it has a beginning and a duration, in microseconds
                "ts": round(one.started * 1e6),
                "dur": round(one.duration * 1e6),
                "pid": 1,
                "tid": lane + 1,
                "args": _plain(one) | {"after": list(one.spec.after)},
            }
        )
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _plain(one: RunResult) -> dict[str, Any]:
    return {
        "name": one.name,
        "command": one.spec.argv if one.spec.call is None else None,
        "status": "passed" if one.passed else "skipped" if one.skipped else "failed",
        "allow_failure": one.spec.allow_failure,
        "exit_code": one.exit_code,
        "reason": one.reason,
        "cause": one.cause,
        "cached": one.cached,
        "attempts": one.attempts,
        "started": round(one.started, 6),
        "duration": round(one.duration, 6),
        "cpu": round(one.usage.user + one.usage.system, 6) if one.usage else None,
        "peak_memory": one.usage.peak_memory if one.usage else None,
        "output": one.output,
        "output_lost": one.output_lost,
    }


def _case(one: RunResult, suite: str) -> ET.Element:
    case = ET.Element(
        "testcase", {"classname": suite, "name": _xml(one.name), "time": f"{one.duration:.3f}"}
    )
    if one.skipped or (one.failed and one.spec.allow_failure):
        ET.SubElement(case, "skipped", {"message": _xml(one.reason)})
    elif one.failed:
        kind = type(one.error).__name__ if one.error else "exit code"
        failure = ET.SubElement(case, "failure", {"message": _xml(one.reason), "type": kind})
        failure.text = _xml(one.excerpt)
    if one.output_bytes and not (one.failed and not one.spec.allow_failure):
        ET.SubElement(case, "system-out").text = _xml(one.excerpt)
    return case


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
