// The form of the Fine-tune step, as far as it must not wait for the server: Start answers at once, and the run that it
// made comes into view; settings are found, and radio buttons are a group.
"use strict";
window.studioForm = (() => {
  const root = document.documentElement;
  const PATIENCE_MS = 120_000, LOOKS = 60;

  // ---- Start
  let calm = 0;
  function starting() {
    root.classList.add("gs-is-starting");
    const button = document.getElementById("finetune-start");
    if (button) button.setAttribute("aria-busy", "true");
    clearTimeout(calm);
    calm = setTimeout(started, PATIENCE_MS);  // a studio that does not answer
    return studio.typed();
  }
  function started() {
    clearTimeout(calm);
    root.classList.remove("gs-is-starting");
    const button = document.getElementById("finetune-start");
    if (button) button.removeAttribute("aria-busy");
  }
  // The run is drawn a moment after the answer that made it.
  function reveal(name, looks = LOOKS) {
    const run = document.querySelector(`#panel-run [data-key="${CSS.escape("run-" + name)}"]`);
    if (!run) { if (looks) setTimeout(() => reveal(name, looks - 1), 50); return; }
    const bar = document.getElementById("finetune-bar"), { top } = run.getBoundingClientRect();
    const end = innerHeight - (bar ? bar.offsetHeight : 0);
    if (top >= 0 && top < end - 120) return;
    run.closest("#panel-run").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  // ---- gradio gives each radio button a name of its own: then they are no group, neither for the keyboard nor for a reader
  function group() {
    document.querySelectorAll("fieldset.block:has(input[type=radio])").forEach((field, number) => {
      const title = field.querySelector("[data-testid=block-info]");
      field.setAttribute("role", "radiogroup");
      if (title) { title.id = title.id || "radios-" + number; field.setAttribute("aria-labelledby", title.id); }
      field.querySelectorAll("input[type=radio]").forEach((radio) => { if (radio.name !== "radios-" + number) radio.name = "radios-" + number; });
    });
  }
  document.addEventListener("focusin", (event) => { if (event.target.matches("input[type=radio]")) group(); });

  // ---- settings: a search hides what does not match, and a reset shows the preset's value again
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  document.addEventListener("input", (event) => {
    if (!event.target.matches("[data-find-setting]")) return;
    const wanted = event.target.value.trim().toLowerCase();
    const hit = `[data-words*=${JSON.stringify(wanted).replace(/[<>]/g, "")}]`;
    sheet.replaceSync(wanted ? `.gs-setting:not(${hit}), .gs-group:not(:has(${hit})) { display: none; }` : "");
    if (wanted) document.querySelectorAll("#panel-settings details[data-key=advanced]").forEach((fold) => { fold.open = true; });
  });
  document.addEventListener("click", (event) => {
    const reset = event.target.closest("[data-act=reset-one]");
    const field = reset && reset.closest(".gs-setting").querySelector("[data-field]");
    if (field && field.nodeName === "INPUT") field.value = field.defaultValue;
  });

  // ---- marks of the bar that the server changes
  const marks = { "data-started": (value) => { started(); if (value) reveal(value); } };
  new MutationObserver((changes) => {
    for (const { target, attributeName } of changes) marks[attributeName](target.getAttribute(attributeName));
  }).observe(root, { subtree: true, attributes: true, attributeFilter: Object.keys(marks) });

  studio.afterDraw(group);
  return { starting, started };
})();
