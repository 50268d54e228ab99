"""Make a service where gevent claims to have patched select."""

import sys
import types

sys.modules["gevent.monkey"] = types.SimpleNamespace(is_module_patched=lambda _name: True)  # type: ignore[assignment]

from core_infra.errors import CoreInfraError  # noqa: E402 - after the patch
from core_infra.process import Service  # noqa: E402 - after the patch

try:
    Service()
except CoreInfraError as error:
    print(type(error).__name__, "gevent" in str(error))
