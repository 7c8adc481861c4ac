"""The page of the documentation that shows a run, losses included."""

from collections.abc import Iterator, Mapping
from typing import Any

_AIMS = {
    "int8": "at least 25 % smaller than the best peer, at most 0.95 of its time, accuracy within its interval.",
    "4 bit": "fewer bytes, at most 1.0 of its time at batch 1 and 0.5 at batch 64.",
    "4 bit, int8 values": "as above; here the values between the layers are integers too.",
    "encoder int8": "fewer bytes, a higher cosine and at most 0.95 of its time.",
}

_STORY = """\
Made by `python -m benchmarks.peers` and its `--page`, not by hand. Every tool gets the same trained weights and the
same 256 samples, and runs in an environment of its own. All files of a table are timed in turn in one process, on one
thread, by CPU time; times are ratios to the fp32 file in the same runtime, with 95 % intervals over sessions. Answers
are those of the file in that runtime. Lines are what a user writes beside model and data. A size, a time or a quality
of ours that is worse than a peer's is in bold."""


def page_of(results: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    yield "# Against other tools, measured"
    yield ""
    yield _STORY
    for name, row in results.items():
        yield ""
        yield f"## {name}, {row['network']}"
        yield ""
        yield f"Aim, written before: {_AIMS[name]} {row['machine']['cpu']}, {row['machine']['cpu_flags']}."
        yield f"Judged on {row['judged_on']}."
        for runtime in row["runtimes"].values():
            yield ""
            yield from _table(runtime)
            yield ""
            yield from _verdicts(runtime)


def _table(runtime: Mapping[str, Any]) -> Iterator[str]:
    qualities = list(runtime["files"]["fp32"]["quality"])
    columns = ["bytes", "batch 1", "batch 64", *qualities, "lines", "seconds to make"]
    yield f"| in {runtime['version']} | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    peers = [told for title, told in runtime["files"].items() if not title.startswith(("fp32", "paretta"))]
    for title, told in runtime["files"].items():
        ours = title.startswith("paretta")
        size = f"{told['bytes']:,}"
        size = f"**{size}**" if ours and told["bytes"] > min(peer["bytes"] for peer in peers) else size
        times = [
            _emphasised(told["times"][batch], ours, [peer["times"][batch]["value"] for peer in peers])
            for batch in ("1", "64")
        ]
        found = [_judged(name, told, ours, peers) for name in qualities]
        made = "" if title == "fp32" else f"{told['seconds_to_make']:.0f}"
        lines = told["user_lines"] or ""
        yield f"| {title.partition(' (')[0]} | {size} | {' | '.join(times)} | {' | '.join(found)} | {lines} | {made} |"
    for title, why in runtime["refused"].items():
        yield f"| {title.partition(' (')[0]} | does not run: {why} |" + " |" * (4 + len(qualities))


def _judged(name: str, told: Mapping[str, Any], ours: bool, peers: list[Mapping[str, Any]]) -> str:
    right = told["quality"][name]
    text = f"{right['value']:.4f} [{right['low']:.4f}, {right['high']:.4f}]"
    if name == "accuracy":
        text = f"{100 * right['value']:.2f} % [{100 * right['low']:.2f}, {100 * right['high']:.2f}]"
    worse = ours and right["value"] < max(peer["quality"][name]["value"] for peer in peers)
    return f"**{text}**" if worse else text


def _emphasised(ratio: Mapping[str, float], ours: bool, peers: list[float]) -> str:
    text = f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"
    return f"**{text}**" if ours and ratio["value"] > min(peers) else text


def _verdicts(runtime: Mapping[str, Any]) -> Iterator[str]:
    """Say for each peer what our file has of its bytes and its time."""
    for told in runtime["files"].values():
        for peer, times in told.get("over", {}).items():
            share = told["bytes"] / runtime["files"][peer]["bytes"]
            words = ", ".join(
                f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] of its time at batch {batch}"
                for batch, ratio in times.items()
            )
            yield f"- Against {peer}: {share:.3f} of its bytes, {words}."
