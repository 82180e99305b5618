"""What the page knows, without gradio."""
