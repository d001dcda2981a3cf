"""Versions are read without running anything, and judged by what this package's own metadata ask for."""

from pathlib import Path

import pytest
from machine import only, pretend

from vdit.doctor.versions import check_versions

ASKED = (
    "Requires-Python: >=3.11",
    "Provides-Extra: deepspeed",
    "Provides-Extra: flash",
    "Requires-Dist: torch<2.14,>=2.11",
    "Requires-Dist: lightning>=2.6.4",
    "Requires-Dist: transformers>=4.56",
    "Requires-Dist: einops>=0.8",
    "Requires-Dist: made-up-thing>=3",
    'Requires-Dist: deepspeed<0.20,>=0.19; extra == "deepspeed"',
    'Requires-Dist: flash-attn>=2.7; extra == "flash"',
)
INSIDE = {"torch": "2.12.1+cu128", "lightning": "2.6.6", "transformers": "5.0", "made-up-thing": "3.1"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of all others in which packages can seem installed."""
    pretend(tmp_path, "vdit-video", "0.1.0", *ASKED)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(site: Path, **others: str) -> None:
    for name, version in (INSIDE | {name.replace("_", "-"): v for name, v in others.items()}).items():
        pretend(site, name, version)


def test_versions_in_their_ranges_are_well(site: Path):
    install(site, deepspeed="0.19.8")
    found = check_versions()
    assert {finding.state for finding in found} <= {"ok", "skipped"}
    assert only(found, "torch").sentence == "torch 2.12.1+cu128 (asked for: <2.14,>=2.11)"
    assert only(found, "deepspeed").state == "ok"
    assert only(found, "others").sentence == "the other 2 required packages are in their ranges"


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
@pytest.mark.parametrize("name", ["lightning", "pytorch-lightning"])
def test_releases_that_were_malware_are_wrong(site: Path, name: str, version: str):
    install(site, **{name.replace("-", "_"): version})
    bad = [finding for finding in check_versions() if "malware" in finding.sentence]
    assert [finding.state for finding in bad] == ["wrong"]
    assert bad[0].sentence.startswith(f"{name} {version} ")
    assert "rotate all credentials" in bad[0].remedy


@pytest.mark.parametrize("version", ["2.10.0", "2.14.0"])
def test_a_version_outside_its_range_is_wrong(site: Path, version: str):
    install(site, torch=version)
    found = only(check_versions(), "torch")
    assert (found.state, found.sentence) == ("wrong", f"torch {version} is not in the range <2.14,>=2.11")


def test_a_required_package_that_is_missing_or_old_is_named(site: Path):
    install(site, einops="0.7")
    (site / "made_up_thing-3.1.dist-info" / "METADATA").unlink()
    (site / "made_up_thing-3.1.dist-info").rmdir()
    found = check_versions()
    assert only(found, "einops").sentence == "einops 0.7 is not in the range >=0.8"
    assert only(found, "made-up-thing").sentence == "made-up-thing is required and not installed"
    assert "others" not in {finding.name for finding in found}


def test_an_optional_package_counts_where_the_run_needs_it(site: Path):
    install(site, deepspeed="0.17.1")
    assert only(check_versions(), "deepspeed").state == "warning"
    assert only(check_versions(frozenset({"deepspeed"})), "deepspeed").state == "wrong"
    assert only(check_versions(), "flash-attn").state == "skipped"
    assert only(check_versions(frozenset({"flash-attn"})), "flash-attn").state == "wrong"


def test_without_metadata_of_its_own_it_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vdit.doctor.versions.DISTRIBUTION", "nobody-has-this")
    [found] = check_versions()
    assert (found.state, found.remedy) == ("warning", "`pip install -e .` in its folder")
