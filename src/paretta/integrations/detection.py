"""Detectors: what they find, and their mean average precision."""

from paretta.pipelines.integrations.detection.average_precision import AveragePrecision, detection_metric, match_boxes
from paretta.pipelines.integrations.detection.boxes import Boxes, box_overlaps, found_boxes

__all__ = ["AveragePrecision", "Boxes", "box_overlaps", "detection_metric", "found_boxes", "match_boxes"]
