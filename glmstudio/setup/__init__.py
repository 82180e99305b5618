"""Set-up before there is an environment: only the standard library may be imported here."""
