"""``ai-gateway health``."""

import json
from typing import Annotated, Any

import typer

from gateway_server.cli import exit_codes
from gateway_server.cli.session import Session, with_session


@with_session
def health(
    session: Session,
    service: Annotated[
        str, typer.Argument(help="As aigateway.v1.ChatService.", show_default="the gateway as a whole")
    ] = "",
) -> None:
    """Asks whether a gateway takes calls; exits with 5 when it does not. Needs no key."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from aigateway.errors import error_of

    stub: Any = health_pb2_grpc.HealthStub(session.client.channel)  # its stubs declare no methods
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        status = stub.Check(request, timeout=session.timeout or 5).status
    except grpc.RpcError as failure:
        raise error_of(failure, target=session.target or "") from None
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    print(json.dumps({"status": name}) if session.as_json else name)
    if status != health_pb2.HealthCheckResponse.SERVING:
        raise typer.Exit(exit_codes.UNAVAILABLE)
