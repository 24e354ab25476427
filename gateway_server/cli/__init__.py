"""The command ``ai-gateway``: runs a gateway, and manages and asks one through the SDK.

Modules here import what is heavy inside functions, so that ``--help`` and completion answer at once.
"""


def main() -> None:
    """Runs the command with the process's arguments and exits."""
    from gateway_server.cli.app import app

    app(prog_name="ai-gateway")
