"""Latency, throughput and overhead of the engines on one bundle, and where the time of a step goes."""

from seggd_rt.bench.benchmark import bench
from seggd_rt.bench.profile import OperatorTime, StepProfile
from seggd_rt.bench.report import EngineFigures, Machine, Report, Settings, is_report, this_machine

__all__ = [
    "EngineFigures",
    "Machine",
    "OperatorTime",
    "Report",
    "Settings",
    "StepProfile",
    "bench",
    "is_report",
    "this_machine",
]
