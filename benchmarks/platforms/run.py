"""Which extra can be installed where: resolved for each system and Python, nothing installed.

Asks uv, which reads the packages' metadata for another platform than this one, and takes wheels
alone: what would have to be compiled counts as missing. Needs uv and a package index:

    python -m pip install uv && python benchmarks/platforms/run.py

Writes results.json; docs/platforms.md has the table.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.record import ROOT, write_results

HERE = Path(__file__).parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux ARM": "aarch64-manylinux_2_28",
    "macOS ARM": "aarch64-apple-darwin",
    "macOS x86-64": "x86_64-apple-darwin",
    "Windows x86-64": "x86_64-pc-windows-msvc",
    "Windows ARM": "aarch64-pc-windows-msvc",
}
MACOS = "14.0"
"""The oldest macOS that Apple still mends; uv takes an older one by itself."""
NOT_FOR_USERS = {"test"}
RUNTIME = "(none)"
_WITHOUT_WHEEL = r"([A-Za-z][A-Za-z0-9._-]*) ?(?:[=<>!~][^ ]*)? ha(?:s|ve) no (?:usable )?wheels"


def extras() -> list[str]:
    """Name what users can ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted({RUNTIME, *project["optional-dependencies"]} - NOT_FOR_USERS)


def known() -> dict[tuple[str, str], list[dict[str, str]]]:
    """Read what earlier runs have found, extra by extra; remove results.json to begin anew."""
    if not (HERE / "results.json").exists():
        return {}
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in json.loads((HERE / "results.json").read_text(encoding="utf-8"))["cells"]:
        found.setdefault((row["platform"], row["python"]), []).append(row)
    return found


def examine(place: tuple[str, str], lacking: list[str]) -> list[dict[str, str]]:
    """Resolve extras at once for one system and Python; one by one where that fails."""
    is_whole = not resolve(*place, lacking)
    return [
        {
            "extra": extra,
            "platform": place[0],
            "python": place[1],
            "missing": "" if is_whole else resolve(*place, [extra]),
        }
        for extra in lacking
    ]


def resolve(platform: str, python: str, wanted: list[str]) -> str:
    """Resolve some extras together; give nothing where that works, else what is missing."""
    words = [sys.executable, "-m", "uv", "pip", "compile", str(ROOT / "pyproject.toml")]
    words += ["--python-platform", PLATFORMS[platform], "--python-version", python]
    words += ["--only-binary", ":all:", "--no-config", "--quiet", "--no-header"]
    words += [word for extra in wanted if extra != RUNTIME for word in ("--extra", extra)]
    with tempfile.TemporaryDirectory() as elsewhere:  # uv would heed an environment's files here
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            cwd=elsewhere,
            env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS},
        )
    return "" if done.returncode == 0 else reason(done.stderr)


def reason(said: str) -> str:
    """Name the packages that have no wheel, or give the end of what uv said."""
    text = " ".join(said.split())
    missing = sorted(set(re.findall(_WITHOUT_WHEEL, text)))
    return f"no wheel of {', '.join(missing)}" if missing else re.sub(r"\S+://\S+", "", text)[-300:]


def main() -> None:
    """Resolve every cell and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=4, help="resolutions at a time")
    parser.add_argument("--platform", action="append", choices=list(PLATFORMS), help="only these")
    options = parser.parse_args()
    kept = known()
    places = [
        (platform, python) for platform in options.platform or PLATFORMS for python in PYTHONS
    ]
    lacking = {
        place: sorted(set(extras()) - {row["extra"] for row in kept.get(place, [])})
        for place in places
    }
    asked = [place for place in places if lacking[place]]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = dict(zip(asked, pool.map(examine, asked, map(lacking.get, asked)), strict=True))
    rows = [
        row
        for place in sorted({*kept, *found})
        for row in sorted(
            [*kept.get(place, []), *found.get(place, [])], key=lambda row: row["extra"]
        )
    ]
    version = subprocess.run(
        [sys.executable, "-m", "uv", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    write_results(HERE, {"uv": version, "cells": rows})
    for row in rows:
        if row["missing"]:
            print(f"{row['extra']:22} {row['platform']:15} {row['python']}  {row['missing']}")
    print(f"{sum(not row['missing'] for row in rows)} of {len(rows)} can be installed")


if __name__ == "__main__":
    main()
