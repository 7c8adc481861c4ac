"""Models of sequences with lengths, such as speech and sensors."""

from paretta.pipelines.integrations.audio_folder import AudioFolder, audio_folder_task
from paretta.pipelines.integrations.sequences import Sequences, sequence_task, steps_mask

__all__ = ["AudioFolder", "Sequences", "audio_folder_task", "sequence_task", "steps_mask"]
