"""AdminService as the gRPC front door serves it."""

from gateway_server.rpc.admin.api_keys import ApiKeyMethods
from gateway_server.rpc.admin.audit_events import AuditEventMethods
from gateway_server.rpc.admin.models import ModelMethods
from gateway_server.rpc.admin.providers import ProviderMethods
from gateway_server.rpc.admin.routes import RouteMethods
from gateway_server.rpc.admin.tenants import TenantMethods


class AdminServicer(
    TenantMethods, ApiKeyMethods, ProviderMethods, ModelMethods, RouteMethods, AuditEventMethods
):
    """All resources that this version manages.

    Guardrail profiles are not among them yet; their RPCs have no handler here and so answer NOT_IMPLEMENTED.
    """
