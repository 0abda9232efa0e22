"""`corral data folio|folder|generate`: the verbs that make rows, put on the `data` noun."""

import typer

from corral.cli.data_folder import folder
from corral.cli.data_folio import folio
from corral.cli.data_generate import generate


def register(app: typer.Typer) -> None:
    """Add the three verbs."""
    for verb in (folio, folder, generate):
        app.command(verb.__name__)(verb)
