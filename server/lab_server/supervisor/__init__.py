"""The one owner of every run that has not ended."""

from lab_server.supervisor.options import SupervisorOptions
from lab_server.supervisor.supervisor import Supervisor

__all__ = ["Supervisor", "SupervisorOptions"]
