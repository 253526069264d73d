"""The command ``dp2p``."""

from __future__ import annotations

import os
import sys

import click

from dp2p.errors import Dp2pError


def main() -> None:
    """Run the command line: errors are one line on stderr and exit code 1, wrong usage is 2."""
    from dp2p.cli.root import cli

    sys.exit(run(cli))


def run(command: click.Command, arguments: list[str] | None = None) -> int:
    """Run ``command`` and turn what it raises into an exit code."""
    try:
        result = command.main(arguments, prog_name="dp2p", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone, and the interpreter must not try to flush it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Dp2pError as error:
        click.echo(f"dp2p: {error}", err=True)
        return 1
    return result if isinstance(result, int) else 0
