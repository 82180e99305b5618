"""What the page is built with: rendering, HTML, charts, theme."""
