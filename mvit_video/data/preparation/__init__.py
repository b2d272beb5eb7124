"""Preparing data sets: official annotations and video files in, checked lists out."""

from mvit_video.data.preparation.examine import Examination
from mvit_video.data.preparation.output import summary_lines
from mvit_video.data.preparation.prepare import DATASETS, Request, check_list, prepare

__all__ = ["DATASETS", "Examination", "Request", "check_list", "prepare", "summary_lines"]
