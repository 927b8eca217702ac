"""Packages that provide backfills, in a folder with pip's layout: a module and its distribution's metadata."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

GROUP = "backfill.backfills"


def install(folder: Path, package: str, entries: Mapping[str, str], **modules: str) -> None:
    """Install a package into a folder. `entries`: entry points by name; `modules`: sources by name."""
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


def entry_points(folder: Path) -> tuple[EntryPoint, ...]:
    """Return the entry points of the packages in a folder."""
    found = distributions(path=[str(folder)])
    return tuple(each for package in found for each in package.entry_points if each.group == GROUP)
