"""vLLM behind the studio's server: who may ask, what is answered and what is refused stay the same."""
