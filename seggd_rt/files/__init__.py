"""Untrusted files, read within limits, and output files, which appear whole or not at all."""

from seggd_rt.files.atomic import (
    MayReplace,
    NewFile,
    NewFolder,
    append,
    check_name,
    check_output,
    check_regular,
    check_writable,
    make_folder,
    remove_partial_files,
    unwritable,
    write_file,
    write_new_file,
)
from seggd_rt.files.limits import MAX_JSON_BYTES, MAX_MANIFEST_VALUES, check_nesting, open_regular, read_file
from seggd_rt.files.locking import output_lock
from seggd_rt.files.strict_json import check_keys, count_values, decode, schema_of

__all__ = [
    "MAX_JSON_BYTES",
    "MAX_MANIFEST_VALUES",
    "MayReplace",
    "NewFile",
    "NewFolder",
    "append",
    "check_keys",
    "check_name",
    "check_nesting",
    "check_output",
    "check_regular",
    "check_writable",
    "count_values",
    "decode",
    "make_folder",
    "open_regular",
    "output_lock",
    "read_file",
    "remove_partial_files",
    "schema_of",
    "unwritable",
    "write_file",
    "write_new_file",
]
