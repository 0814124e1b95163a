"""The wheel in a fresh environment: how long it takes, how large it is, and that the notebook runs there.

Nothing of this checkout is on the path there: what runs is what a user has installed. Packages come from
wherever `pip` is set up to get them, so the seconds are of this machine and its network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.table import Row, show, step

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/tour.ipynb"
MAX_MB = 500.0
MAX_INSTALL_S = 60.0
LARGEST = 12
PIP = ("-m", "pip", "install", "-q", "--no-compile")
"""As README says it: modules are compiled when they are first imported, and most never are."""
_RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read("tour.ipynb", as_version=4)
nbclient.NotebookClient(notebook, kernel_name="python3", timeout=600).execute()
print(sum(cell.cell_type == "code" and cell.execution_count is not None for cell in notebook.cells))
"""


def run(*words: object, cwd: Path) -> str:
    """What the command prints. Ends the program where it fails."""
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


def size_mb(folder: Path) -> float:
    """As `du` counts: what its files take on the disk."""
    return sum(each.lstat().st_blocks * 512 for each in folder.rglob("*")) / 2**20


def main() -> None:
    """Prints the table; exit code 1 where a target is missed or a cell fails."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        step("building the wheel")
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
        (wheel,) = folder.glob("*.whl")
        run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
        python = folder / "venv/bin/python"
        step("installing it")
        began_s, before = time.perf_counter(), os.times()
        run(python, *PIP, wheel, cwd=folder)
        install_s, after = time.perf_counter() - began_s, os.times()
        install_cpu_s = after.children_user - before.children_user
        install_cpu_s += after.children_system - before.children_system
        rows = [
            Row(
                "pip install --no-compile warmscaler, without extras", install_s, "s", MAX_INSTALL_S
            ),
            Row("  of that, CPU", install_cpu_s, "s"),
            Row("its environment", size_mb(folder / "venv"), "MB", MAX_MB),
        ]
        packages = next((folder / "venv/lib").glob("python*/site-packages"))
        sizes = {each.name: size_mb(each) for each in packages.iterdir() if each.is_dir()}
        for name in sorted(sizes, key=lambda each: -sizes[each])[:LARGEST]:
            rows.append(Row(f"  {name}", sizes[name], "MB"))
        step("the notebook")
        run(python, *PIP, f"{wheel}[notebook]", cwd=folder)
        shutil.copy(NOTEBOOK, folder)
        began_s = time.perf_counter()
        cells = int(run(python, "-c", _RUN, cwd=folder))
        rows.append(Row("docs/tour.ipynb there: cells run", cells, "", 1, at_most=False))
        rows.append(Row("  in", time.perf_counter() - began_s, "s"))
        show(rows, "make fresh")


if __name__ == "__main__":
    main()
