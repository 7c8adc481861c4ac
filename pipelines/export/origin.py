"""Which layer of the trained model each tensor of its export belongs to, though the file has short names only."""

from ast import literal_eval
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from onnx import ModelProto

from paretta.pipelines.export.restored_weights import parts_of

_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the tensors of an exported file come from; they have the names that the file gives them.

    Args:
        makers: the modules around the operation that yields a tensor, outermost first.
        readers: the modules around each operation that reads a tensor, those that unpack it left out.
        original: the name that a tensor had in the trained model, such as ``conv.weight``.
        stored_bits: that each number of a stored weight takes in the file, its table or digits counted in.
    """

    makers: Mapping[str, tuple[str, ...]]
    readers: Mapping[str, frozenset[tuple[str, ...]]]
    original: Mapping[str, str]
    stored_bits: Mapping[str, float]

    @classmethod
    def of(cls, small: ModelProto, graph: ModelProto, short: Mapping[str, str]) -> "Origin":
        """Read the origin from the exporter's `graph`, the file's graph `small`, and the short names of its tensors."""
        makers = {
            short.get(name, name): _scopes(node.metadata_props) for node in graph.graph.node for name in node.output
        }
        readers: dict[str, frozenset[tuple[str, ...]]] = {}
        for node in reversed(small.graph.node):
            known = [makers[name] for name in node.output if name in makers]
            # what unpacks a weight is ours, and belongs to whoever reads the weight
            own = frozenset(known) or frozenset().union(*(readers.get(name, frozenset()) for name in node.output))
            for name in node.input:
                readers[name] = readers.get(name, frozenset()) | own
        original = {new: old for old, new in short.items()}
        return cls(makers, readers, original, _stored_bits(small, graph, short))


@dataclass(frozen=True, slots=True)
class Exported:
    """A serialised ONNX model, and where its tensors come from."""

    content: bytes
    origin: Origin


def _scopes(properties: object) -> tuple[str, ...]:
    """Return the names of the modules around an operation, as torch's exporter notes them."""
    found = {entry.key: entry.value for entry in properties}  # type: ignore[attr-defined]  # a protobuf container
    return tuple(literal_eval(found.get(_SCOPES, "[]"))[:-1])


def _stored_bits(small: ModelProto, graph: ModelProto, short: Mapping[str, str]) -> dict[str, float]:
    stored = {item.name: len(item.raw_data) or item.ByteSize() for item in small.graph.initializer}
    makers = {name: node for node in small.graph.node for name in node.output}

    def sources(name: str) -> set[str]:
        if name in stored:
            return {name}
        node = makers.get(name)
        return set() if node is None else set().union(*(sources(given) for given in node.input))

    single = {item.name for item in graph.graph.initializer if len(item.dims) < 2}
    found: dict[str, float] = {}
    for item in graph.graph.initializer:
        names = [name for part in parts_of(item.name) if part not in single and sources(name := short.get(part, part))]
        if len(item.dims) > 1 and prod(item.dims) and names:
            held = set().union(*(sources(name) for name in names))
            found[names[0]] = 8 * sum(stored[source] for source in held) / prod(item.dims)
    return found
