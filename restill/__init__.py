"""Restill: distil, judge and promote sentence-pair similarity models. Nothing here imports Prefect."""

__version__ = "0.1.0"
