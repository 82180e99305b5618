"""Words, numbers, dates and amounts of English and Chinese, in comparable form."""
