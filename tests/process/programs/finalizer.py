"""A finalizer runs a program when Python exits."""

from core_infra.errors import CoreInfraError
from core_infra.process import Service


class Late:
    def __del__(self) -> None:
        try:
            print(service.run("echo", "late"))
        except CoreInfraError as error:
            print(type(error).__name__, error.why)


service, late = Service(), Late()
