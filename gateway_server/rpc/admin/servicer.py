"""AdminService as the gRPC front door serves it."""

from gateway_server.rpc.admin.api_keys import ApiKeyMethods
from gateway_server.rpc.admin.audit_events import AuditEventMethods
from gateway_server.rpc.admin.guardrail_profiles import GuardrailProfileMethods
from gateway_server.rpc.admin.models import ModelMethods
from gateway_server.rpc.admin.providers import ProviderMethods
from gateway_server.rpc.admin.routes import RouteMethods
from gateway_server.rpc.admin.tenants import TenantMethods


class AdminServicer(
    TenantMethods,
    ApiKeyMethods,
    GuardrailProfileMethods,
    ProviderMethods,
    ModelMethods,
    RouteMethods,
    AuditEventMethods,
):
    """All resources that the gateway manages."""
