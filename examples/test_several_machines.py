"""More than one machine in one test."""

from pathlib import Path

from pytest_core_infra.plugin import MachineFactory


def test_move_a_backup_to_a_fresh_machine(core_vm_factory: MachineFactory, tmp_path: Path) -> None:
    old = core_vm_factory(name="old")
    old.write_text("/srv/data/a", "one")
    old.write_text("/srv/data/b", "two")
    old.exec("tar -cf /root/backup.tar -C /srv data", check=True)
    old.pull("/root/backup.tar", tmp_path / "backup.tar")
    old.stop()  # not needed: all machines stop at the end of the test

    new = core_vm_factory(name="new", memory=128)
    new.push(tmp_path / "backup.tar", "/root/")
    new.exec("tar -xf /root/backup.tar -C /srv", check=True)
    assert new.read_text("/srv/data/b") == "two"
