"""An environment for each peer, made once and kept: the tool and what it needs, at pinned versions."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOOLS: Final = Path(__file__).with_name("tools")
ORT: Final = ("onnxruntime==1.31.1", "onnx==1.23.2", "sympy", "onnx-ir==1.1.0")


@dataclass(frozen=True, slots=True)
class Peer:
    """Another tool.

    Args:
        title: what the tables call it.
        script: its program in ``tools``, called with the fp32 file, samples and the file to write.
        requirements: what its environment holds.
        environment: the name of that environment.
    """

    title: str
    script: str
    requirements: tuple[str, ...]
    environment: str

    @property
    def user_lines(self) -> int:
        """The lines of the program, without blank lines, comments and its docstring."""
        lines = (TOOLS / self.script).read_text(encoding="utf-8").splitlines()[1:]
        return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)

    def make(self, source: Path, samples: Path, out: Path, home: Path) -> None:
        """Write the file in the peer's own environment below `home`."""
        python = home / self.environment / "bin" / "python"
        if not (home / self.environment / "ready").exists():
            _called(sys.executable, "-m", "venv", home / self.environment)
            _called(python, "-m", "pip", "install", "--quiet", *self.requirements)
            (home / self.environment / "ready").touch()
        _called(python, TOOLS / self.script, source, samples, out)


def _called(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


STATIC: Final = Peer("ONNX Runtime static", "ort_static.py", ORT, "onnxruntime")
NBITS: Final = Peer("MatMulNBits, block 32", "ort_nbits.py", ORT, "onnxruntime")
DYNAMIC: Final = Peer("ONNX Runtime dynamic", "ort_dynamic.py", ORT, "onnxruntime")
_NNCF: Final = ("nncf==3.4.0", "openvino==2026.4.1", *ORT)
NNCF: Final = Peer("NNCF", "nncf_int8.py", _NNCF, "nncf")
NNCF_INT4: Final = Peer("NNCF, 4-bit weights", "nncf_int4.py", _NNCF, "nncf")
