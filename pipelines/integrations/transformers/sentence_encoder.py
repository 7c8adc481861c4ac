"""Encoders of sentences, compressed without labels: they are to answer as the given model does."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from paretta.pipelines.integrations.transformers.encoded_text import (
    EncodedRows,
    EncodedSample,
    Row,
    TextEncoder,
    TextRows,
    column,
)
from paretta.pipelines.integrations.transformers.prepared_model import (
    ModelSource,
    prepared,
    pretrained_files,
    processor_for,
)
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import Problem, WrongInput

_WEIGHED = 64  # of each parameter's values, for the identity of the reference embeddings


class MeanPooled(nn.Module):
    """An encoder whose answer is the mean of its last states over the tokens, with length 1.

    As in sentence-transformers. Outputs are ``last_hidden_state`` [n, tokens, width], by which name optimum asks for
    it, and ``sentence_embedding`` [n, width].

    Args:
        encoder: a model of transformers that answers with ``last_hidden_state``.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.eval()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the embeddings for ids and mask [n, tokens]."""
        others = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **others).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1).clamp_min(1e-9)
        return {"last_hidden_state": states, "sentence_embedding": nn.functional.normalize(mean, dim=1)}


def sentence_encoder(
    model: ModelSource,
    tokenizer: Any = None,
    *,
    train: TextRows,
    validation: TextRows,
    test: TextRows,
    text: str = "text",
    max_length: int = 128,
    metrics: Mapping[str, Metric] | None = None,
) -> Task:
    """Return the task of embedding sentences as the given model does; no labels are needed.

    The given model's embeddings are computed when samples are read. The loss is the mean cosine distance to them, and
    the metric ``cosine`` the mean cosine similarity.

    Args:
        model: a folder that ``save_pretrained`` wrote, or a trained encoder such as ``BertModel``; its last states are
            averaged over the tokens.
        tokenizer: a tokenizer of transformers or its folder; by default that of the model's folder.
        train: rows, each a mapping with a text: a list, or a Hugging Face dataset.
        validation: rows on which candidates are compared.
        test: rows that are read only once, for the selected models.
        text: the column with the text.
        max_length: texts are cut to that many tokens.
        metrics: see `Task`; by default ``cosine``. The batch has the given model's embeddings as ``reference``.

    Raises:
        WrongInput: a part is missing or does not fit the others.
    """
    whole = prepared(model, "AutoModel")
    if not isinstance(whole, nn.Module):
        rule = "must be a trained encoder or its folder, since its own embeddings are what is kept"
        raise WrongInput(Problem("model", rule, getattr(model, "__name__", type(model).__name__)))
    if getattr(whole, "pooler", None) is not None:
        whole.register_module("pooler", None)  # of the class token, which the mean over the tokens leaves unused
    reader = TextEncoder(processor_for(tokenizer, model, "AutoTokenizer", "tokenizer"), whole, max_length)
    encoder = MeanPooled(whole)
    reference = _Reference(encoder, reader)

    def encode(rows: Sequence[Row]) -> list[EncodedSample]:
        samples = reader.samples(reader(column(rows, text)))
        return reader.samples({name: [s[name] for s in samples] for name in reader.names}, reference=reference(samples))

    splits = [EncodedRows(rows, encode) for rows in (train, validation, test)]
    first = reader.collate(reader.samples(reader(column([train[0]], text))))
    return Task(
        model=encoder,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        loss=cosine_distance,
        metrics=metrics or {"cosine": Metric(cosines, unit="")},
        example_input={name: first[name] for name in reader.names},
        data_id=_identity(encoder, text, max_length, (train, validation, test)),
        collate=reader.collate,
        free_axes={name: {1: "tokens"} for name in reader.names},
        class_scores=lambda outputs: outputs["sentence_embedding"],
        files=pretrained_files(whole, reader.tokenizer),
    )


class _Reference:
    """Computes the embeddings of the given model, each text's once."""

    def __init__(self, encoder: MeanPooled, reader: TextEncoder) -> None:
        self._encoder, self._reader = encoder, reader
        self._known: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def __call__(self, samples: Sequence[EncodedSample]) -> list[Tensor]:
        """Return the embedding [width] of each sample."""
        keys = [tuple(sample["input_ids"]) for sample in samples]
        new = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in self._known}
        if new:
            batch = self._reader.collate(list(new.values()))
            self._known |= dict(zip(new, self._encoder(**batch)["sentence_embedding"], strict=True))
        return [self._known[key] for key in keys]


def cosines(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Return the cosine similarity of each embedding with the reference, [n]."""
    return torch.cosine_similarity(outputs["sentence_embedding"], batch["reference"], dim=1)


def cosine_distance(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Return the mean cosine distance from the reference."""
    return 1 - cosines(outputs, batch).mean()


def _identity(model: nn.Module, text: str, max_length: int, splits: Sequence[TextRows]) -> str:
    """Return a digest of the texts and the model; embeddings themselves differ in their last digits among machines."""
    found = sha256(f"{text} {max_length}".encode())
    for tensor in model.state_dict().values():
        found.update(tensor.detach().flatten()[:_WEIGHED].contiguous().numpy().tobytes())
    for rows in splits:
        for index in range(len(rows)):
            found.update(repr(rows[index][text]).encode())
    return found.hexdigest()
