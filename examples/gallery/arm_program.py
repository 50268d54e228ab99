"""A program for ARM, built here and run on an ARM machine: no ARM hardware, no binfmt, no root.

Needs Go, ``core-infra[build]`` and ``qemu-system-arm``.
``pytest --core-vm examples/gallery/arm_program.py``
"""

from pytest_core_infra.plugin import ArtifactBuilder, MachineFactory

PROJECT = {
    "go.mod": "module example.org/where\n\ngo 1.21\n",
    "main.go": """\
package main

import ("fmt"; "runtime")

func main() { fmt.Println(runtime.GOOS, runtime.GOARCH) }
""",
}


def test_it_runs_where_it_is_meant_to(
    build_artifacts: ArtifactBuilder, core_vm_factory: MachineFactory
) -> None:
    result = build_artifacts(PROJECT, ["linux/arm64"], name="where", version="1.0.0")
    machine = core_vm_factory(arch="aarch64")
    machine.push(result.program("linux/arm64"), "/usr/local/bin/where")
    assert machine.exec("where", check=True).stdout == "linux arm64\n"
