"""Annotation files and what can be wrong with them: COCO, COCO panoptic."""
