"""A folder of images is a task: split by file, read alike by any number of threads, its preprocessing delivered."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from paretta.pipelines.integrations.class_folders import class_files
from paretta.pipelines.integrations.images.image_folder import FlipAndShift, ImageFolder, image_folder_task
from paretta.pipelines.integrations.images.preprocessing import ImagePreprocessing
from paretta.pipelines.loading.check_task import check_task
from paretta.pipelines.task import SPLITS, Task
from paretta.search_spaces.errors import WrongInput

SMALL = ImagePreprocessing(size=(8, 10), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def network(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 8, num_classes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images of each of two classes, of different sizes and kinds."""
    generator = np.random.default_rng(0)
    for label in ("dark", "light"):
        (tmp_path / label).mkdir()
        for place in range(12):
            shape = (int(generator.integers(9, 20)), int(generator.integers(9, 20)), 3)
            pixels = generator.integers(0, 120, shape) + (130 if label == "light" else 0)
            image = Image.fromarray(pixels.astype(np.uint8))
            kinds = {0: "RGB", 1: "L", 2: "P", 3: "RGBA"}
            image.convert(kinds[place % 4]).save(tmp_path / label / f"{place}.png")
    (tmp_path / "light" / "notes.txt").write_text("no image")
    return tmp_path


def make(folder: Path, threads: int = 2) -> Task:
    return image_folder_task(folder, network, preprocessing=SMALL, view=FlipAndShift(), threads=threads)


def test_it_is_sound_and_names_its_classes(folder: Path) -> None:
    task = make(folder)
    check_task(task)
    assert json.loads(task.files["classes.json"]) == ["dark", "light"]
    assert ImagePreprocessing.from_json(task.files["preprocessor_config.json"]) == SMALL
    paths = [path for name in SPLITS for path in task.split(name).files.paths]  # type: ignore[attr-defined]
    assert sorted(paths) == sorted(folder.rglob("*.png"))


def test_views_are_random_but_the_same_for_any_number_of_threads(folder: Path) -> None:
    read = []
    for threads in (1, 3):
        torch.manual_seed(5)
        task = make(folder, threads)
        read.append([task.batch(task.train, torch.arange(6))[0] for _ in range(2)])
    assert torch.equal(read[0][0], read[1][0])
    assert torch.equal(read[0][1], read[1][1])
    assert not torch.equal(read[0][0], read[0][1])
    first = [make(folder).batch(task.validation, torch.arange(2))[0] for _ in range(2)]
    assert torch.equal(first[0], first[1])


def test_a_view_is_a_mirrored_and_shifted_image() -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (10, 20, 3), dtype=np.uint8)
    seen = set()
    for seed in range(40):
        found = np.asarray(FlipAndShift(shift=0.1)(Image.fromarray(pixels), torch.Generator().manual_seed(seed)))
        possible = {
            (flip, right, down): _shifted(pixels[:, ::-1] if flip else pixels, right, down)
            for flip in (False, True)
            for right in (-2, -1, 0, 1, 2)
            for down in (-1, 0, 1)
        }
        (view,) = [name for name, wanted in possible.items() if np.array_equal(wanted, found)]
        seen.add(view)
    assert len(seen) > 10


def _shifted(pixels: np.ndarray, right: int, down: int) -> np.ndarray:
    padded = np.pad(pixels, ((2, 2), (2, 2), (0, 0)))
    return padded[2 + down : 12 + down, 2 + right : 22 + right]


@pytest.mark.parametrize("edge", [None, 12])
def test_the_preprocessing_is_that_of_the_written_file_in_transformers(edge: int | None, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    prepared = ImagePreprocessing((8, 10), edge, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic")
    (tmp_path / "preprocessor_config.json").write_bytes(prepared.to_json())
    processor = transformers.CLIPImageProcessorPil.from_pretrained(tmp_path)
    for size in ((33, 21), (14, 40)):
        image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8))
        expected = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
        np.testing.assert_allclose(prepared(image).numpy(), expected, atol=1e-5)


def test_the_preprocessing_of_other_libraries_is_read() -> None:
    config = {"input_size": (3, 224, 224), "crop_pct": 0.95, "interpolation": "bicubic", "mean": (0.5,) * 3}
    found = ImagePreprocessing.from_timm({**config, "std": (0.25,) * 3})
    assert found == ImagePreprocessing((224, 224), 235, (0.5,) * 3, (0.25,) * 3, "bicubic")

    class Interpolation:
        value = "bilinear"

    class Preset:
        crop_size, resize_size, interpolation = [224], [256], Interpolation
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

    assert ImagePreprocessing.from_torchvision(Preset()) == ImagePreprocessing((224, 224), 256)


def test_folders_called_like_splits_are_the_splits_and_groups_stay_together(folder: Path, tmp_path: Path) -> None:
    _, files = class_files(folder, {".png"}, shares=(0.4, 0.3, 0.3), group=lambda path: str(int(path.stem) // 2))
    for name in SPLITS:
        groups = {(path.parent.name, int(path.stem) // 2) for path in files[name].paths}
        assert len(files[name].paths) == 2 * len(groups)
    named = tmp_path / "named"
    for split in ("train", "val", "test"):
        for label in ("a", "b"):
            (named / split / label).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(named / split / label / f"{split}.png")
    classes, files = class_files(named, {".png"})
    assert classes == ("a", "b")
    assert [path.stem for path in files["validation"].paths] == ["val", "val"]
    assert files["test"].labels == (0, 1)


def test_an_unreadable_image_is_named_by_check_wherever_it_lies(folder: Path) -> None:
    for path in sorted((folder / "dark").glob("*.png"))[:3]:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(WrongInput, match=r"image: must be readable; got '.*dark/\d+\.png'; "):
        check_task(make(folder))
    task = make(folder)
    found = [str(problem) for name in SPLITS for problem in ImageFolder.problems(task.split(name), name)]  # type: ignore[arg-type]
    assert len(found) == 3
    assert all(".png'" in told for told in found)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("missing", "must be a folder with a folder for each class; got 'no such folder'"),
        ("empty", "must have folders of classes with files of .bmp, .*; got 'only loose.png'"),
        ("one", "must have at least two classes, a folder for each; got 'dark'"),
        ("few", "the .* split must have files of every class; got 'none of light'; add files"),
    ],
)
def test_folders_that_are_no_classes_are_told_in_one_line(spoil: str, told: str, folder: Path, tmp_path: Path) -> None:
    light = folder / "light"
    if spoil == "missing":
        folder = folder / "nowhere"
    if spoil == "empty":
        folder = tmp_path / "loose"
        folder.mkdir()
        (folder / "loose.png").touch()
    if spoil in ("one", "few"):
        for path in sorted(light.glob("*.png"))[(1 if spoil == "few" else 0) :]:
            path.unlink()
    with pytest.raises(WrongInput, match=told) as caught:
        make(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size": (0, 4)}, "height and width must be at least 1"),
        ({"shortest_edge": 5}, "shortest_edge: must cover the crop; got 5; give shortest_edge=224 or more"),
        ({"std": (0.0, 1.0, 1.0)}, "std: must be positive"),
        ({"resample": "cubic"}, "resample: must be one of nearest, lanczos"),
    ],
)
def test_a_preprocessing_that_cannot_be_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        ImagePreprocessing(**settings)  # type: ignore[arg-type]
