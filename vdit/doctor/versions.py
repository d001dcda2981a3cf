"""Versions of what a training stands on, against what this package asks for; nothing is imported for it."""

import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from vdit.doctor.finding import Finding

__all__ = ["DISTRIBUTION", "check_versions", "installed"]

DISTRIBUTION = "vdit-video"
OPTIONAL = ("deepspeed", "flash-attn", "peft")
"""Packages of extras that a training may use."""
SHOWN = ("torch", "lightning", "transformers", *OPTIONAL)
"""Those with a line of their own; the others have one together."""
MALWARE = {(name, version) for name in ("lightning", "pytorch-lightning") for version in ("2.6.2", "2.6.3")}


def installed(name: str) -> str | None:
    """The version of a package, or None; nothing of it is run."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_versions(needed: frozenset[str] = frozenset()) -> list[Finding]:
    """Python, every package that is required, and the optional ones that are there.

    Args:
        needed: optional packages that the run to come cannot do without.
    """
    return [*_bad_releases(), *_ranges(needed)]


def _bad_releases() -> Iterator[Finding]:
    for name, version in sorted(MALWARE):
        if installed(name) == version:
            yield Finding(
                name,
                "wrong",
                f"{name} {version} is malware: it steals credentials when it is imported",
                f"import it no more; `pip uninstall {name}`, `pip cache purge`, install 'lightning>=2.6.4', "
                "and rotate all credentials that this machine could read: SSH keys, tokens of hubs and "
                "clouds, passwords in the environment",
            )


def _ranges(needed: frozenset[str]) -> Iterator[Finding]:
    try:
        own = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield Finding(
            "versions",
            "warning",
            f"{DISTRIBUTION} is not installed, so what it requires is not known",
            "`pip install -e .` in its folder",
        )
        return
    yield _judged("python", platform.python_version(), SpecifierSet(own.metadata["Requires-Python"] or ""))
    wanted = [Requirement(line) for line in own.requires or ()]
    core = {r.name: r.specifier for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})}
    extra = {r.name: r.specifier for r in wanted if r.name in OPTIONAL}
    for name in SHOWN:
        if name in core:
            yield _judged(name, installed(name), core[name])
        else:
            yield _judged_extra(name, installed(name), extra.get(name, SpecifierSet()), name in needed)
    others = [_judged(name, installed(name), core[name]) for name in core if name not in SHOWN]
    bad = [finding for finding in others if finding.state != "ok"]
    yield from bad
    if not bad:
        yield Finding("others", "ok", f"the other {len(others)} required packages are in their ranges")


def _judged(name: str, version: str | None, asked: SpecifierSet) -> Finding:
    if version is None:
        remedy = f"`pip install '{name}{asked}'`"
        return Finding(name, "wrong", f"{name} is required and not installed", remedy)
    if not asked.contains(version, prereleases=True):
        remedy = f"install {name}{asked}"
        return Finding(name, "wrong", f"{name} {version} is not in the range {asked}", remedy)
    return Finding(name, "ok", f"{name} {version}" + (f" (asked for: {asked})" if asked else ""))


def _judged_extra(name: str, version: str | None, asked: SpecifierSet, needed: bool) -> Finding:
    if needed:
        return _judged(name, version, asked)
    if version is None:
        return Finding(name, "skipped", f"{name} is not installed, and not needed without its extra")
    found = _judged(name, version, asked)
    state = "warning" if found.state == "wrong" else found.state
    return Finding(name, state, found.sentence, found.remedy)
