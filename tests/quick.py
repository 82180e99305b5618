"""The quick half of the tests, by file: it needs no PyTorch, no browser and no model, so that any Python can run it."""

from __future__ import annotations

QUICK = frozenset(
    f"test_{name}.py"
    for name in (
        "answers", "attacks_tools", "bundles", "calls", "chat_form", "cli", "cluster", "cluster_scripts", "data", "data_cases", "data_doctor", "data_documents", "data_formats", "data_store", "data_tables", "data_text", "data_view",
        "deepspeed_install", "dialogue", "doctor_card", "doctor_classify", "doctor_fixes", "doctor_hosts", "doctor_machine", "doctor_models",
        "doctor_names", "doctor_network", "doctor_ports", "doctor_redact", "doctor_verdict", "fake_hub", "filter", "glossary", "imports", "launcher", "lease", "mcp", "membership",
        "models_adding", "models_hostile", "models_jobs", "models_network", "own_data", "presets", "process", "publish_page", "reasons", "rollcall", "same_prompt", "sandbox", "score", "shortcut", "toolbox", "tools",
        "train", "ui", "units", "vocabulary", "wordings", "words",
    )
)  # fmt: skip

# What these test is the same on every Python: the driver, the network, the disk, the hub, and words.
ANY_PYTHON = frozenset(
    f"test_{name}.py"
    for name in (
        "answers", "attacks_tools", "data_documents", "deepspeed_install", "doctor_card", "doctor_fixes", "doctor_hosts",
        "doctor_machine", "doctor_names", "doctor_network", "doctor_ports", "fake_hub", "glossary", "models_hostile",
        "models_jobs", "presets", "units", "wordings", "words",
    )
)  # fmt: skip
