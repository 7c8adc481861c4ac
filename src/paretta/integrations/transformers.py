"""Tasks from models of Hugging Face transformers; needs ``pip install 'paretta[transformers]'``."""

from paretta.pipelines.integrations.transformers.causal_lm import causal_lm
from paretta.pipelines.integrations.transformers.image_classification import image_classification
from paretta.pipelines.integrations.transformers.sentence_encoder import sentence_encoder
from paretta.pipelines.integrations.transformers.text_classifiers import sequence_classification, token_classification
from paretta.pipelines.losses.perplexity import Perplexity

__all__ = [
    "Perplexity",
    "causal_lm",
    "image_classification",
    "sentence_encoder",
    "sequence_classification",
    "token_classification",
]
