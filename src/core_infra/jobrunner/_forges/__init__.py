"""GitHub and Forgejo, as far as jobs need them. Only the clients need ``core-infra[jobs]``."""
