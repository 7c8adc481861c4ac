"""Tasks from models of Hugging Face transformers: text and image classifiers, taggers, encoders, language models."""
