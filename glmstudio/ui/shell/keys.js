// The keyboard: a list of what it does (`?`), the way past the header, and Start.
"use strict";
(() => {
  const TYPED = "input:not([type=checkbox]):not([type=radio]):not([type=button]), textarea, select, [contenteditable=true]";
  const isTyping = (target) => Boolean(target && target.closest && target.closest(TYPED));

  function list() {
    const told = document.querySelector("template[data-keys]");
    if (!told || document.querySelector("dialog[open]")) return;
    const before = document.activeElement;
    const box = document.createElement("dialog");
    box.className = "gs-dialog gs-keys";
    box.append(told.content.cloneNode(true));
    box.setAttribute("aria-labelledby", "gs-keys-title");
    box.addEventListener("click", (event) => { if (event.target === box || event.target.closest("button")) box.close(); });
    box.addEventListener("close", () => { box.remove(); if (before && before.focus) before.focus(); });
    document.body.append(box);
    box.showModal();
  }
  function skip() {
    const step = document.querySelector("#step-" + studio.step());
    const target = studio.step() === "chat" ? document.querySelector("#chat-input textarea") : step;
    if (!target) return;
    if (target === step) step.tabIndex = -1;
    target.focus();
    target.scrollIntoView({ block: "nearest" });
  }
  function start() {
    const found = document.querySelector("#gs-start") || document.querySelector("#finetune-start");
    const button = found && (found.matches("button") ? found : found.querySelector("button"));
    if (button && !button.disabled) button.click();
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest) return;
    if (event.target.closest("[data-list-keys]")) list();
    if (event.target.closest("[data-skip]")) { event.preventDefault(); skip(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "?" && !event.ctrlKey && !event.metaKey && !isTyping(event.target)) { event.preventDefault(); list(); }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && studio.step() === "finetune") { event.preventDefault(); start(); }
  });
})();
