"""gradio's own widgets in the studio's colours: every colour is a token of `style.css`, so light and dark follow it."""

from __future__ import annotations

import gradio as gr

SANS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Noto Sans",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "sans-serif",
)
MONO = (
    "ui-monospace",
    "SFMono-Regular",
    "Cascadia Mono",
    "Consolas",
    "DejaVu Sans Mono",
    "Noto Sans Mono CJK SC",
    "monospace",
)

_COLOURS = {
    "body_background_fill": "bg",
    "body_text_color": "text",
    "body_text_color_subdued": "muted",
    "background_fill_primary": "surface",
    "background_fill_secondary": "sunk",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "color_accent": "accent",
    "color_accent_soft": "accent-soft",
    "link_text_color": "accent-text",
    "block_background_fill": "surface",
    "block_border_color": "line",
    "block_label_text_color": "muted",
    "block_title_text_color": "text",
    "block_info_text_color": "muted",
    "input_background_fill": "field",
    "input_background_fill_focus": "field",
    "input_border_color": "line-strong",
    "input_border_color_focus": "accent",
    "input_placeholder_color": "muted",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent-hover",
    "button_primary_text_color": "on-accent",
    "button_primary_text_color_hover": "on-accent",
    "button_primary_border_color": "accent",
    "button_secondary_background_fill": "surface",
    "button_secondary_background_fill_hover": "sunk",
    "button_secondary_text_color": "text",
    "button_secondary_border_color": "line-strong",
    "checkbox_background_color": "field",
    "checkbox_background_color_selected": "accent",
    "checkbox_border_color": "line-strong",
    "checkbox_border_color_selected": "accent",
    "checkbox_label_background_fill": "surface",
    "checkbox_label_background_fill_hover": "sunk",
    "checkbox_label_background_fill_selected": "accent-soft",
    "checkbox_label_text_color": "text",
    "checkbox_label_text_color_selected": "text",
    "checkbox_label_border_color": "line",
    "checkbox_label_border_color_selected": "accent",
}
_SAME_IN_DARK = frozenset({"color_accent"})


def theme() -> gr.themes.Base:
    """The theme, without external fonts or files."""
    made = gr.themes.Base(font=SANS, font_mono=MONO, radius_size=gr.themes.sizes.radius_md)
    values: dict[str, str] = {}
    for name, token in _COLOURS.items():
        values[name] = f"var(--gs-{token})"
        if name not in _SAME_IN_DARK:
            values[f"{name}_dark"] = values[name]
    return made.set(
        **values,
        block_shadow="none",
        block_border_width="0px",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_title_text_weight="600",
        block_title_text_size="14px",
        block_info_text_size="13px",
        input_border_width="1px",
        input_padding="9px 12px",
        input_radius="9px",
        input_shadow="none",
        input_shadow_focus="0 0 0 3px var(--gs-focus)",
        button_border_width="1px",
        button_large_radius="9px",
        button_small_radius="9px",
        button_large_padding="9px 16px",
        button_large_text_size="15px",
        button_large_text_weight="600",
        checkbox_border_radius="5px",
        layout_gap="16px",
        form_gap_width="16px",
    )
