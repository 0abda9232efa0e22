"""The model shelf: one file per verb, each with a spec and a plan; `KINDS` lists them.

A verb resolves names to paths; its stages work on files only and never see the database.
"""

from corral.jobs.kinds import Kinds

# Name of the kind: the module that has it as KIND. Imported when a job of that kind is asked for.
KINDS = Kinds(
    {
        "convert": "corral.shelf.convert",
        "evaluate": "corral.shelf.evaluate",
        "export": "corral.shelf.export",
        "measure": "corral.shelf.measure",
        "pull": "corral.shelf.pull",
        "quantize": "corral.shelf.quantize",
    }
)
