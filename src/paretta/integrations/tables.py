"""Models of tables with numbers and categories."""

from paretta.pipelines.integrations.tables import Columns, FrameRows, TableNet, table_task

__all__ = ["Columns", "FrameRows", "TableNet", "table_task"]
