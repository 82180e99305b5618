"""What day it is."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from glmstudio.tools.city_time_zones import zone_of
from glmstudio.tools.tool_error import ToolError

PERMISSION = "always"


def get_date(city: str | None = None) -> str:
    """Tells the date and the day of the week, here or in a city.

    Args:
        city: The city; without it, the date of this computer.
    """
    if city is None:
        now = datetime.now().astimezone()
    else:
        zone = zone_of(city)
        if zone is None:
            raise ToolError(f"The time zone of {city} is not known.")
        now = datetime.now(ZoneInfo(zone))
    return now.strftime("%Y-%m-%d, %A")
