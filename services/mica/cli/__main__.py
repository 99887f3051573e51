"""Entry of the ``mica`` command. Invariant: whatever goes wrong is one line on stderr and a status other than 0."""

import sys

import click

from mica.cli._lazy import LazyGroup


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="mica", message="mica %(version)s")
def mica() -> None:
    """Slices of accelerators: fixed memory and compute for every tenant."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    try:
        status = mica.main(args=arguments, prog_name="mica", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "mica"
        fail(f"{path}: {error.format_message()} (see {path} --help)", error.exit_code)
    except click.ClickException as error:
        fail(f"mica: {error.format_message()}", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        fail("mica: interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    sys.exit(status if isinstance(status, int) else 0)


def fail(message: str, status: int) -> None:
    """Say one line and exit."""
    click.echo(" ".join(message.split()), err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
