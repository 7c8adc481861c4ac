"""Tasks from the models of other libraries: one module for each library, which is imported only when the module is.

See ``docs/integrations.md``. The functions are defined in `paretta.pipelines.integrations`.
"""
