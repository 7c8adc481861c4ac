"""What a machine that only delivers needs: installs deploy/runtime.txt into a fresh environment, and tries it there."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pulled", type=Path, help="a pulled folder, to verify and unpack there")
    parser.add_argument("packed", type=Path, help="what `paretta pack` wrote of it")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="paretta-runtime-") as scratch:
        home = Path(scratch) / "environment"
        run(sys.executable, "-m", "venv", "--without-pip", str(home))
        pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install"]
        pip += ["--quiet", "--no-compile"]
        run(*pip, "--requirement", str(ROOT / "deploy" / "runtime.txt"))
        run(*pip, "--no-deps", str(committed(Path(scratch) / "paretta")))
        (packages,) = home.glob("lib/python*/site-packages")
        sizes = {path.name: size(path) for path in packages.iterdir()}
        for name, found in sorted(sizes.items(), key=lambda pair: -pair[1])[:12]:
            print(f"{found / 1e6:8.1f} MB  {name}")
        print(f"{sum(sizes.values()) / 1e6:8.1f} MB  in all")
        paretta = str(home / "bin" / "paretta")
        run(paretta, "verify", str(arguments.pulled))
        run(paretta, "unpack", str(arguments.packed), "--to", str(Path(scratch) / "again"))
        assert (Path(scratch) / "again" / "model.onnx").read_bytes() == (arguments.pulled / "model.onnx").read_bytes()
        print(f"{size(packages) / 1e6:8.1f} MB  in all after use")


def committed(folder: Path) -> Path:
    """Copy what is committed to `folder`, since a build leaves files beside its sources."""
    folder.mkdir()
    with subprocess.Popen(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout, check=True)
    return folder


def run(*command: str) -> None:
    subprocess.run(command, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})


def size(path: Path) -> int:
    """Return the bytes of a file or of all files in a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


if __name__ == "__main__":
    main()
