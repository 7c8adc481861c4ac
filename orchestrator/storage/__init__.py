"""The files of a sweep, on a disk or in an object store."""
