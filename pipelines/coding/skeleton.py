"""Replace the tensor names of a graph by relative references, and restore names."""

from onnx import ModelProto

_LETTERS = 26
_ABSENT = "?"


def anonymous(model: ModelProto) -> ModelProto:
    """Return `model` with references instead of tensor names, so that equal layers have equal text.

    An input of a node is written as: ``a`` for the last computed tensor, ``b`` for the one before, ..; ``A`` for the
    stored tensor after the last used one, ``B`` for the next, ..; ``-30`` and ``+30`` or ``+-2`` beyond the letters;
    ``=name`` for an input of the graph. Stored tensors and outputs have no name, except outputs of the graph.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    graph = bare.graph
    stored = {item.name: index for index, item in enumerate(graph.initializer)}
    kept = {item.name for item in (*graph.input, *graph.output)}
    made: dict[str, int] = {}
    expected = 0
    for item in graph.initializer:
        item.ClearField("name")
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in stored:
                node.input[place] = _letter(stored[name] - expected, "A", "+")
                expected = stored[name] + 1
            elif name in made:
                node.input[place] = _letter(len(made) - 1 - made[name], "a", "-")
            elif name:
                node.input[place] = f"={name}"
        for place, name in enumerate(node.output):
            made[name or f"{_ABSENT}{len(made)}"] = len(made)
            node.output[place] = f"={name}" if name in kept else "" if name else _ABSENT
    return bare


def named(bare: ModelProto) -> ModelProto:
    """Return the model that was given to `anonymous`, with other internal names."""
    model = ModelProto()
    model.CopyFrom(bare)
    graph = model.graph
    made: list[str] = []
    expected = 0
    for index, item in enumerate(graph.initializer):
        item.name = _stored(index)
    for node in graph.node:
        for place, word in enumerate(node.input):
            if not word or word.startswith("="):
                node.input[place] = word[1:]
            elif word[0] == "+" or word.isupper():
                index = expected + _distance(word, "A")
                node.input[place], expected = _stored(index), index + 1
            else:
                node.input[place] = made[-1 - _distance(word, "a")]
        for place, word in enumerate(node.output):
            made.append(word[1:] if word.startswith("=") else f"-{len(made)}")
            node.output[place] = "" if word == _ABSENT else made[-1]
    return model


def _letter(distance: int, first: str, sign: str) -> str:
    return chr(ord(first) + distance) if 0 <= distance < _LETTERS else f"{sign}{distance}"


def _distance(word: str, first: str) -> int:
    return ord(word) - ord(first) if len(word) == 1 else int(word[1:])


def _stored(index: int) -> str:
    return f"+{index}"
