"""`make audit`: known holes in what is locked (pip-audit), and in our own code (bandit)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
LOCK = "requirements.lock"
PACKAGES = ("data", "models", "service", "simulator", "training", "cli")


def main() -> None:
    """Exit code 1 for a hole that is known or suspected; what could not be asked is one line."""
    sys.exit(1 if _dependencies() + _own_code() else 0)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", *command)
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def _dependencies() -> int:
    ended = _run(
        "pip_audit",
        "-r",
        LOCK,
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner=off",
        "-fjson",
    )
    try:
        asked: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (ended.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"pip-audit: nothing in {LOCK} was checked, it ended with: {reason[:200]}")
        return 0
    skipped = [each for each in asked if "skip_reason" in each]
    if len(skipped) == len(asked):
        print(
            f"pip-audit: nothing in {LOCK} was checked: PyPI's advisories for its {len(asked)}"
            " packages cannot be reached from here"
        )
        return 0
    holes = [(each, hole) for each in asked for hole in each.get("vulns", ())]
    print(f"pip-audit: {len(asked) - len(skipped)} packages checked, {len(holes)} known holes")
    for each in skipped:
        print(f"  not checked: {each['name']}: {each['skip_reason']}")
    for each, hole in holes:
        mended = ", ".join(hole.get("fix_versions", ())) or "no version"
        print(f"  {each['name']} {each['version']}: {hole['id']}, mended in {mended}")
    return len(holes)


def _own_code() -> int:
    ended = _run("bandit", "-q", "-ll", "-c", "pyproject.toml", "-f", "json", "-r", *PACKAGES)
    try:
        said = json.loads(ended.stdout)
    except ValueError:
        print(f"bandit: {ended.stderr.strip()}")
        return 1
    found: list[dict[str, Any]] = said["results"]
    lines = said["metrics"]["_totals"]["loc"]
    print(f"bandit: {lines:,} lines of {', '.join(PACKAGES)} looked at, {len(found)} findings")
    for each in [*found, *said["errors"]]:
        where = f"{each['filename']}:{each.get('line_number', '')}"
        print(f"  {where}: {each.get('test_id', '')} {each.get('issue_text', each.get('reason'))}")
    return len(found) + len(said["errors"])


if __name__ == "__main__":
    main()
