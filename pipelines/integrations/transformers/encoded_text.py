"""Texts as samples: encoded by a tokenizer when they are read, and padded to the longest of a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from paretta.pipelines.integrations.transformers.label_scores import IGNORED
from paretta.pipelines.integrations.transformers.prepared_model import accepted_inputs
from paretta.search_spaces.errors import Problem, WrongInput

Row: TypeAlias = "Mapping[str, Any]"
EncodedSample: TypeAlias = "dict[str, Any]"


class TextRows(Protocol):
    """Rows of a table: a list of mappings, or a Hugging Face dataset."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, index: int, /) -> Row:
        """Return one row."""


class EncodedRows(Dataset[EncodedSample]):
    """Rows that are turned into samples when they are read, several at a time."""

    def __init__(self, rows: TextRows, encode: Callable[[Sequence[Row]], list[EncodedSample]]) -> None:
        """Take the rows, and the function that turns some of them into samples."""
        self.rows, self.encode = rows, encode

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> EncodedSample:
        """Return one sample."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[EncodedSample]:
        """Return the samples at `indices`."""
        return self.encode([self.rows[index] for index in indices])


class TextEncoder:
    """Encodes texts with a tokenizer, for one model.

    Args:
        tokenizer: of transformers.
        model: the one that is given the tokens.
        max_length: texts are cut to that many tokens.
        length_name: what the user calls it, for messages.

    Raises:
        WrongInput: it is no tokenizer, the length is beyond the model's positions, or the tokenizer has tokens that the
            model does not know.
    """

    def __init__(self, tokenizer: Any, model: Any, max_length: int, *, length_name: str = "max_length") -> None:
        for name in ("__call__", "model_input_names", "padding_side"):
            if not hasattr(tokenizer, name):
                raise WrongInput(Problem("tokenizer", "must be a tokenizer of transformers", type(tokenizer).__name__))
        places = getattr(model.config, "max_position_embeddings", None)
        if isinstance(places, int) and not 2 <= max_length <= places:
            rule = f"must be from 2 to the {places} positions that the model knows"
            raise WrongInput(Problem(length_name, rule, max_length))
        _require_known_tokens(tokenizer, model)
        self.tokenizer, self.max_length = tokenizer, max_length
        offered = [name for name in tokenizer.model_input_names if name in tokenizer("a")]
        self.names = accepted_inputs(model, offered, "input_ids")

    def __call__(self, texts: Sequence[Any], pairs: Sequence[str] | None = None, *, words: bool = False) -> Any:
        """Return the tokenizer's encoding of texts, or of texts that are lists of words."""
        return self.tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            truncation=True,
            max_length=self.max_length,
            is_split_into_words=words,
        )

    def samples(self, encoding: Any, **others: Sequence[Any]) -> list[EncodedSample]:
        """Return a sample for each text of an encoding: the model's inputs, and what `others` say of each."""
        count = len(encoding["input_ids"])
        columns = {name: encoding[name] for name in self.names} | others
        return [{name: values[place] for name, values in columns.items()} for place in range(count)]

    def collate(self, samples: Sequence[EncodedSample]) -> dict[str, Tensor]:
        """Return samples as a batch; sequences are padded to the longest, labels with -100."""
        padding = {
            "input_ids": self._padding_token(samples),
            "token_type_ids": getattr(self.tokenizer, "pad_token_type_id", 0),
            "labels": IGNORED,
        }
        return {
            name: _column([sample[name] for sample in samples], padding.get(name, 0), self.tokenizer.padding_side)
            for name in samples[0]
        }

    def _padding_token(self, samples: Sequence[EncodedSample]) -> int:
        token = self.tokenizer.pad_token_id
        if token is None and len({len(sample["input_ids"]) for sample in samples}) > 1:
            hint = "set tokenizer.pad_token, and model.config.pad_token_id with it"
            raise WrongInput(Problem("tokenizer", "has no padding token for texts of several lengths", hint=hint))
        return int(token or 0)


def _require_known_tokens(tokenizer: Any, model: Any) -> None:
    """Raise `WrongInput` if the tokenizer gives ids beyond the model's table; a longer table is common and no fault."""
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
    last = max(vocabulary, key=vocabulary.__getitem__, default=None)
    table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    known = getattr(table, "num_embeddings", None)
    if last is not None and known is not None and vocabulary[last] >= known:
        rule = f"its ids must be below {known}, the tokens that the model knows"
        hint = f"give the model's own tokenizer, or call model.resize_token_embeddings({vocabulary[last] + 1})"
        raise WrongInput(Problem("tokenizer", rule, f"{last!r} is {vocabulary[last]}", hint))


def _column(values: Sequence[Any], padding: float, side: str) -> Tensor:
    tensors = [torch.as_tensor(value) for value in values]
    return pad_sequence(tensors, True, padding, side) if tensors[0].dim() else torch.stack(tensors)


def column(rows: Sequence[Row], name: str) -> list[Any]:
    """Return one column of rows. Raises `WrongInput` if a row does not have it."""
    for row in rows:
        if not isinstance(row, Mapping) or name not in row:
            found = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
            raise WrongInput(Problem("rows", f"must be mappings with {name!r}", found, "name the column that there is"))
    return [row[name] for row in rows]


def class_labels(rows: Sequence[Row], name: str, config: Any) -> list[Any]:
    """Return a column of labels; words become the numbers that the model's config gives them."""
    known = getattr(config, "label2id", None) or {}
    found = []
    for label in column(rows, name):
        if isinstance(label, str) and label not in known:
            rule = f"must be one of the model's labels: {', '.join(map(str, known))}"
            raise WrongInput(Problem(f"rows[{name!r}]", rule, label, "give the model's config a label2id"))
        found.append(known[label] if isinstance(label, str) else label)
    return found
