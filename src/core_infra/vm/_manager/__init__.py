"""Machines that outlive the command that started them: their records, templates and manager."""
