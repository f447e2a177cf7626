"""Former location of ``Tracking``, kept for programs and configs; it is now in ``lightning_modules.runtime``."""

from lightning_modules.runtime.tracking import Tracking as Tracking
