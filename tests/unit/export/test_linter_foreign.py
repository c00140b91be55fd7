"""Repositories of others: no alarm for what a server loads, a finding for what it refuses, and no advice to rebuild."""

import re
from pathlib import Path

import pytest
from tests.support.foreign_repositories import CLEAN, DEFECTS

from seresnext_export import linter
from seresnext_export.linter.model_directory import Severity

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@pytest.mark.parametrize("name", CLEAN)
def test_what_a_server_loads_has_nothing_to_fix(name: str, tmp_path: Path) -> None:
    CLEAN[name].write(tmp_path)
    findings = linter.check(tmp_path, on_cpu=True)
    assert [finding for finding in findings if finding.severity is not Severity.NOT_CHECKED] == []


@pytest.mark.parametrize("name", DEFECTS)
def test_what_a_server_refuses_is_a_fault(name: str, tmp_path: Path) -> None:
    DEFECTS[name].write(tmp_path)
    findings = linter.check(tmp_path, on_cpu=True)
    assert any(finding.fault and re.search(DEFECTS[name].cause, finding.cause) for finding in findings), findings
    assert not any("seresnext-export" in finding.fix for finding in findings)


def test_another_backend_is_not_checked_and_no_fault(tmp_path: Path) -> None:
    CLEAN["another backend, and an ensemble over it"].write(tmp_path)
    (finding,) = linter.check(tmp_path, on_cpu=True)
    assert finding.severity is Severity.NOT_CHECKED
    assert "'dali'" in finding.cause
