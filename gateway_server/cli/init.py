"""``ai-gateway init``."""

import json
import sys
from typing import Annotated

import typer

from gateway_server.cli import exit_codes
from gateway_server.cli.process import ConfigFile, announce_admin_key, load_settings
from gateway_server.cli.session import fail


def init(
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object with adminKey.")] = False,
) -> None:
    """Sets up the store and prints the first admin key, once. `serve` does the same at its first start.

    The settings are those of `serve`. Nothing happens when all is set up already.
    """
    import asyncio

    settings = load_settings(config, {})
    from gateway_server.app import StartError, initialise

    try:
        admin_key = asyncio.run(initialise(settings))
    except StartError as error:
        fail(str(error), code=exit_codes.FAILURE)
    if as_json:
        print(json.dumps({"adminKey": admin_key} if admin_key else {}))
    elif admin_key:
        announce_admin_key(admin_key)
    else:
        print("Set up already; no key was made.", file=sys.stderr)
