"""The state of the page, without gradio."""
