"""A signal handler runs programs while its thread runs others."""

import signal

from core_infra.process import Service

service = Service()
nested = 0


def handle(*_: object) -> None:
    global nested  # noqa: PLW0603 - counted for the result
    assert service.run("echo", "within") == "within\n"
    nested += 1


signal.signal(signal.SIGALRM, handle)
for number in range(400):
    signal.setitimer(signal.ITIMER_REAL, (number % 40 + 1) * 5e-5)
    assert service.run("echo", str(number)) == f"{number}\n"
    signal.setitimer(signal.ITIMER_REAL, 0)
print(nested > 0, service.leftovers())
