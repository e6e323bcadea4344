"""Many images: what a run makes, in which batches, where the files go, how each was made, and `verify`."""

from seggd_rt.runs.batches import Checking, Draw, Images, Maps, Progress, Starts, settings_of
from seggd_rt.runs.dataset import planned_records, require_kept, run
from seggd_rt.runs.mask_checks import checked, fitted
from seggd_rt.runs.one_mask import OneMask
from seggd_rt.runs.output import check_apart, check_own, grid_file, is_folder
from seggd_rt.runs.output_check import OutputCheck, shown_dice, shown_medians
from seggd_rt.runs.plan import Item, Plan, Settings, Shard, SliceNoise, check_random_classes, plan_run
from seggd_rt.runs.records import Record, check_all_replaceable, check_replaceable, record_making, require_all_same
from seggd_rt.runs.retry import draw_checked
from seggd_rt.runs.verify import Comparison, Inputs, compare, load_as_recorded, making_as_json, read_making

__all__ = [
    "Checking",
    "Comparison",
    "Draw",
    "Images",
    "Inputs",
    "Item",
    "Maps",
    "OneMask",
    "OutputCheck",
    "Plan",
    "Progress",
    "Record",
    "Settings",
    "Shard",
    "SliceNoise",
    "Starts",
    "check_all_replaceable",
    "check_apart",
    "check_own",
    "check_random_classes",
    "check_replaceable",
    "checked",
    "compare",
    "draw_checked",
    "fitted",
    "grid_file",
    "is_folder",
    "load_as_recorded",
    "making_as_json",
    "plan_run",
    "planned_records",
    "read_making",
    "record_making",
    "require_all_same",
    "require_kept",
    "run",
    "settings_of",
    "shown_dice",
    "shown_medians",
]
