"""What the command line says when it cannot go on. Invariant: one line, and an exit status other than 0."""

import click


class CliError(click.ClickException):
    """An outcome that ends the command with status 1; the message is the one line that the user sees."""
