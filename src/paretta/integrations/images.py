"""Image classifiers on folders of images; needs Pillow."""

from paretta.pipelines.integrations.images.image_folder import FlipAndShift, ImageFolder, image_folder_task
from paretta.pipelines.integrations.images.preprocessing import ImagePreprocessing

__all__ = ["FlipAndShift", "ImageFolder", "ImagePreprocessing", "image_folder_task"]
