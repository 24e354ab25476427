# Made from _async by tools/make_sync.py: edit there, then run it.
"""Models."""

from collections.abc import Iterator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from aigateway._sync.connection import Connection
from aigateway.v1.admin_service_pb2 import (
    CreateModelRequest,
    DeleteModelRequest,
    GetModelRequest,
    ListModelsRequest,
    UpdateModelRequest,
)
from aigateway.v1.model_pb2 import Model


class Models:
    """``client.admin.models``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str, *, timeout: float | None = None) -> Model:
        """Gets one model, by its name: ``providers/{provider}/models/{model}``."""
        request = GetModelRequest(name=name)
        return self._connection.call(self._connection.stubs.admin.GetModel, request, timeout=timeout)

    def list(
        self, parent: str = "providers/-", *, page_size: int = 0, timeout: float | None = None
    ) -> Iterator[Model]:
        """All models of a provider or, without one, of all providers, newest first."""
        request = ListModelsRequest(parent=parent, page_size=page_size)
        return self._connection.pages(
            self._connection.stubs.admin.ListModels, request, lambda page: page.models, timeout=timeout
        )

    def create(self, parent: str, model: Model, *, model_id: str = "", timeout: float | None = None) -> Model:
        """Creates a model; its id is made from ``provider_model`` when none is given."""
        request = CreateModelRequest(parent=parent, model=model, model_id=model_id)
        return self._connection.call(self._connection.stubs.admin.CreateModel, request, timeout=timeout)

    def update(
        self, model: Model, *, update_mask: Sequence[str] | None = None, timeout: float | None = None
    ) -> Model:
        """Changes the fields that the mask names; without a mask, every field that is set."""
        mask = None if update_mask is None else FieldMask(paths=update_mask)
        request = UpdateModelRequest(model=model, update_mask=mask)
        return self._connection.call(self._connection.stubs.admin.UpdateModel, request, timeout=timeout)

    def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes a model; with ``etag``, only if it is unchanged."""
        request = DeleteModelRequest(name=name, etag=etag)
        self._connection.call(self._connection.stubs.admin.DeleteModel, request, timeout=timeout)
