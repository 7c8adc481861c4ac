"""Whether the system has ended processes for want of memory."""

import re
from pathlib import Path

# of this container where the kernel tells (the second and the first version of cgroups), else of the whole machine
_COUNTERS = ("sys/fs/cgroup/memory.events", "sys/fs/cgroup/memory/memory.oom_control", "proc/vmstat")


def oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes the kernel has killed for want of memory, since it was started."""
    for name in _COUNTERS:
        try:
            found = re.search(r"^oom_kill (\d+)$", (root / name).read_text(encoding="ascii"), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return 0
