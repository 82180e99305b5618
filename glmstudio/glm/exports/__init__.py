"""What others read: a Hugging Face folder (transformers, vLLM, SGLang), GGUF files (llama.cpp, Ollama), and their
proof.

Facts and traps of both formats: `docs/serving.md`.
"""
