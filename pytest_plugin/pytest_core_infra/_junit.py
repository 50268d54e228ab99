"""Adds our sections of a failed test's report to ``system-out`` of JUnit XML.

pytest itself writes only captured output there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from _pytest.junitxml import bin_xml_escape, xml_key

if TYPE_CHECKING:
    from collections.abc import Generator

_OURS = "core_infra_sections"
_CAPTURED = "Captured "
_TAG = "system-out"


class JUnitSections:
    """Hooks of a run that writes JUnit XML; with pytest-xdist, the controller writes it.

    Args:
        config: the run's config.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note which sections are ours; all of them exist when this hook returns."""
        report = yield
        names = getattr(item, "fixturenames", ())
        if report.failed and any(name == "core" or name.startswith("core_") for name in names):
            titles = [title for title, _ in report.sections if not title.startswith(_CAPTURED)]
            setattr(report, _OURS, titles)  # a plain list, which pytest-xdist can send
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        """Write them after the failure itself; the report of a teardown closes the test case."""
        if report.when == "teardown":
            self._write(report)
            yield
        else:
            yield
            self._write(report)

    def _write(self, report: pytest.TestReport) -> None:
        titles = getattr(report, _OURS, ())
        xml = self._config.stash.get(xml_key, None)
        if xml is None or not titles:
            return
        text = "\n".join(
            f"{f' {title} ':-^80}\n{content}"
            for title, content in report.sections
            if title in titles
        )
        reporter: Any = xml.node_reporter(report)
        for node in reporter.nodes:
            if node.tag == _TAG:  # readers use only the first one
                node.text = f"{node.text or ''}\n{bin_xml_escape(text)}"
                return
        node = ET.Element(_TAG)
        node.text = bin_xml_escape(text)
        reporter.append(node)
