"""Sequences with lengths are a task whose file takes any number of steps; sounds are read as they are on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from paretta.pipelines.export.agreement import checked_bytes
from paretta.pipelines.integrations.audio_folder import audio_folder_task, read_sound
from paretta.pipelines.integrations.sequences import Sequences, pad_batch, sequence_task, steps_mask
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.task import SPLITS, Metric, Task
from paretta.search_spaces.errors import WrongInput


class Ear(nn.Module):
    """A convolution, a GRU, and the mean over as many steps as there are."""

    def __init__(self, num_classes: int = 3, channels: int | None = 2) -> None:
        super().__init__()
        self.channels = channels
        self.first = nn.Conv1d(channels or 1, 6, 3, padding=1)
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.head = nn.Linear(5, num_classes)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        mask = steps_mask(frames, lengths)
        values = frames.transpose(1, 2) if self.channels else frames.unsqueeze(1)
        states, _ = self.gru(torch.relu(self.first(values)).transpose(1, 2))
        scores: Tensor = self.head((states * mask.unsqueeze(2)).sum(1) / lengths.unsqueeze(1))
        return scores


def sequences(count: int, seed: int) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator).tolist()
    lengths = torch.randint(4, 12, (count,), generator=generator).tolist()
    values = [
        torch.randn(length, 2, generator=generator) + label for length, label in zip(lengths, labels, strict=True)
    ]
    return Sequences(values, labels)


def task() -> Task:
    return sequence_task({name: sequences(24, seed) for seed, name in enumerate(SPLITS)}, Ear, steps=(2, 100))


def test_it_is_sound_and_its_file_has_free_steps() -> None:
    check_task(task())
    assert task().free_axes == {"frames": {1: ("steps", 2, 100)}}
    checked_bytes(Ear().eval(), task())  # compares answers at half the length too


def test_a_batch_is_padded_to_its_longest() -> None:
    values, lengths, labels = pad_batch([(torch.ones(2, 1), 5), (torch.ones(3, 1) * 2, 6)])
    assert values.squeeze(2).tolist() == [[1, 1, 0], [2, 2, 2]]
    assert (lengths.tolist(), labels.tolist()) == ([2, 3], [5, 6])


def test_padding_changes_no_answer_of_the_mask() -> None:
    frames, lengths, _ = pad_batch([sequences(8, 0)[place] for place in range(8)])
    model = Ear().eval()
    with torch.no_grad():
        together = model(frames, lengths)
        for place in range(8):
            alone = model(frames[place : place + 1, : lengths[place] + 1], lengths[place : place + 1])
            assert torch.allclose(alone[0], together[place], atol=1e-5)


def test_lengths_longer_than_the_tensor_are_told() -> None:
    with pytest.raises(WrongInput, match=r"lengths\[1\]: must be 1 to 4, as many steps as there are; got 5"):
        Sequences.padded(torch.zeros(2, 4, 3), [4, 5], [0, 1])
    assert Sequences.padded(torch.arange(8).reshape(2, 4), [4, 2], [0, 1])[1][0].tolist() == [4, 5]
    data = TensorDataset(torch.zeros(8, 6, 2), torch.arange(1, 9), torch.arange(8) % 3)
    accuracy = Metric(lambda outputs, labels: (outputs.argmax(1) == labels).float())
    own = Task(
        Ear,
        data,
        data,
        data,
        nn.functional.cross_entropy,
        {"accuracy": accuracy},
        tuple(t[:1] for t in data.tensors[:2]),
    )
    with pytest.raises(WrongInput, match=r"train\[6\]: lengths must be 0 to 6, the steps of the longest input; got 7"):
        check_task(own)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (torch.zeros(0, 2), r"train\[20\]: a sequence must have at least one step"),
        (
            torch.zeros(5, 3),
            r"train\[20\]: each step must look like those of .*train\[0\], \[2\] of torch.float32; got '\[3",
        ),
        (torch.full((5, 2), torch.nan), r"train\[20\]: must be finite"),
    ],
)
def test_check_names_a_sequence_that_does_not_fit(values: Tensor, told: str) -> None:
    train = sequences(300, 0)
    spoilt = [*train.sequences]
    spoilt[20] = values
    splits = {name: sequences(24, seed) for seed, name in enumerate(SPLITS)}
    splits["train"] = Sequences(spoilt, train.labels)
    with pytest.raises(WrongInput, match=told):
        check_task(sequence_task(splits, Ear))


def test_what_is_no_task_of_sequences_is_refused() -> None:
    with pytest.raises(WrongInput, match="labels: there must be as many labels as sequences; got '1 for 2'"):
        Sequences([torch.zeros(1), torch.zeros(1)], [0])
    with pytest.raises(WrongInput, match=r"splits\['validation'\]: must hold at least one sequence"):
        sequence_task({"train": sequences(4, 0), "test": sequences(4, 0)}, Ear)
    splits = {name: sequences(4, seed) for seed, name in enumerate(SPLITS)}
    with pytest.raises(
        WrongInput, match=r"forward must take sequences .* and their lengths \[n\]; got 'forward\(input\)'"
    ):
        sequence_task(splits, lambda: nn.Linear(2, 3))


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Tones of two pitches, one in mono and 16 bits, the other in stereo and floats."""
    generator = np.random.default_rng(0)
    for label, pitch in (("high", 0.9), ("low", 0.2)):
        (tmp_path / label).mkdir()
        for place in range(12):
            tone = 0.5 * np.sin(pitch * np.arange(int(generator.integers(40, 90))) + generator.uniform(0, 6))
            values = (tone * 2**15).astype(np.int16) if label == "low" else np.stack([tone, tone], 1).astype(np.float32)
            wavfile.write(tmp_path / label / f"{place}.wav", 8000, values)
    return tmp_path


def heard(num_classes: int) -> nn.Module:
    return Ear(num_classes, channels=None)


def test_a_folder_of_sounds_is_a_task(sounds: Path) -> None:
    found = audio_folder_task(sounds, heard, sample_rate=8000, most_seconds=60 / 8000)
    check_task(found)
    lengths = [len(found.train[place][0]) for place in range(len(found.train))]  # type: ignore[arg-type]
    assert max(lengths) == 60  # longer ones are cut
    for label in ("high", "low"):
        sound = read_sound(sounds / label / "0.wav", 8000)
        assert sound.dtype == torch.float32
        assert 0.45 < float(sound.abs().max()) <= 0.5


def test_a_sound_that_cannot_be_used_is_named_by_check(sounds: Path) -> None:
    with pytest.raises(WrongInput, match=r"must have 16000 samples a second; got '8000 in .*\.wav'; convert it"):
        check_task(audio_folder_task(sounds, heard))
    (sounds / "low" / "3.wav").write_bytes(b"RIFF")
    with pytest.raises(WrongInput, match=r"sound: must be a readable WAV file; got '.*low/3\.wav'"):
        read_sound(sounds / "low" / "3.wav", 8000)
    wavfile.write(sounds / "low" / "3.wav", 8000, np.zeros(0, np.int16))
    with pytest.raises(WrongInput, match=r"must have at least one sample; got '.*low/3\.wav'"):
        check_task(audio_folder_task(sounds, heard, sample_rate=8000))
