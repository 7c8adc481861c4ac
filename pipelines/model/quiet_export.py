"""Silence what torch says of its own internals while it traces a model, which the user cannot act on."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from paretta.pipelines.model.torch_private import exporter_is_loaded, exporter_logger


@contextmanager
def quiet_export() -> Iterator[None]:
    """Keep torch's exporters from printing graphs and from warning of their own internals; errors are still raised."""
    names = ["torch.fx.experimental.symbolic_shapes"]
    if exporter_is_loaded():
        names.append(exporter_logger())
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        # if one way to trace a model fails, torch prints the graph before it tries the next
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used, since it shares", UserWarning)
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
            # of recurrent layers
            warnings.filterwarnings("ignore", "_check_is_size will be removed", FutureWarning)
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
