"""The demo provider: OpenAI's chat and embeddings, played in this process without any model.

Everything it says is deterministic and says that it is a demo. Its models are ``demo-chat``; ``demo-slow``,
which pauses between deltas; ``demo-tools``, which calls the first tool it is offered; ``demo-fail``, which
fails with the HTTP status named in the prompt; and ``demo-embeddings``. ``commands`` tells what else can be
asked of it.
"""

from gateway_server.providers.demo.commands import DEMO_MODELS
from gateway_server.providers.demo.transport import DEMO_URL, DemoTransport

__all__ = ["DEMO_MODELS", "DEMO_URL", "DemoTransport"]
