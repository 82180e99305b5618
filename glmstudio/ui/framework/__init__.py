"""What every part of the page is built with."""
