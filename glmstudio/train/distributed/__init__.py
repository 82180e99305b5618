"""The processes that train together: how they meet and what they tell each other."""
