"""Store a sweep's files on a disk or in an object store."""
