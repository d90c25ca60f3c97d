"""Where the packages lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("core", "backends", "plugins")


def packages() -> dict[str, Path]:
    """Package -> its folder, of every package in the folders of sources."""
    folders = (folder for source in SOURCES for folder in sorted((ROOT / source).glob("*")))
    return {folder.name: folder for folder in folders if any(folder.rglob("*.py"))}
