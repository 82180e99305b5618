// The part of the page that must not wait for the server: steps, light and dark, copying, and redrawing without flicker.
"use strict";
window.studio = (() => {
  const root = document.documentElement;
  const steps = ["doctor", "model", "finetune", "chat"];
  const remembered = (name) => { try { return localStorage.getItem("glmstudio." + name); } catch { return null; } };
  const remember = (name, value) => { try { localStorage.setItem("glmstudio." + name, value); } catch { /* private window */ } };

  // ---- what the next visit begins with: a part of the page says what is to be kept
  const KEEP = "kept.";
  function keep(slot) {
    for (const each of slot.querySelectorAll("[data-keep]")) {
      if (remembered(KEEP + each.dataset.keep) !== each.dataset.kept) remember(KEEP + each.dataset.keep, each.dataset.kept);
    }
  }
  function kept() {
    const found = {};
    try {
      for (const name of Object.keys(localStorage)) {
        if (name.startsWith("glmstudio." + KEEP)) found[name.slice(10 + KEEP.length)] = localStorage.getItem(name);
      }
    } catch { /* private window */ }
    return JSON.stringify(found);
  }

  // ---- light and dark
  const darkSystem = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => remembered("theme") || (darkSystem.matches ? "dark" : "light");
  function paint() {
    root.dataset.theme = theme();
    if (document.body && document.body.classList.contains("dark") !== (theme() === "dark")) {
      document.body.classList.toggle("dark", theme() === "dark");
    }
  }
  darkSystem.addEventListener("change", paint);

  // ---- the step that is open
  let arrived = false;
  let redraw = () => {};  // asks the server, which draws hidden steps only when they are opened
  function show(step) {
    if (!steps.includes(step)) return;
    if (arrived && step !== root.dataset.step) redraw(step);
    root.dataset.step = step;
    if (location.hash !== "#" + step) history.replaceState(null, "", "#" + step);
    mark();
  }
  function mark() {
    const skip = document.querySelector("[data-skip]");
    if (skip) skip.setAttribute("href", "#step-" + root.dataset.step);
    document.querySelectorAll(".gs-rail [data-go]").forEach((button) => {
      if (button.dataset.go === root.dataset.step) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
    });
  }
  function arrive(step, lang) {
    speak(lang);
    if (arrived) return;
    // Last in the document, so that it wins over gradio's rules of the same weight.
    document.body.append(document.getElementById("studio-style"));
    const asked = location.hash.slice(1);
    show(steps.includes(asked) ? asked : step);
    arrived = true;
    requestAnimationFrame(() => root.classList.remove("gs-wait"));
  }
  function speak(lang) {
    root.lang = lang === "zh" ? "zh-CN" : "en";
    document.cookie = "glmstudio_lang=" + (lang === "zh" ? "zh" : "en") + ";path=/;max-age=31536000;samesite=strict";
  }

  // ---- how far a run is stands in the title; its end is notified once, in whichever page is open
  let unread = "";
  function tell({ busy, news, newsText }) {
    const known = remembered("news");
    if (news && known !== null && known !== news && document.hidden !== undefined) {
      unread = newsText;
      if ("Notification" in window && Notification.permission === "granted") {
        try { new Notification("GLM Studio", { body: newsText, tag: news }); } catch { /* phones refuse */ }
      }
    }
    if (known !== news) remember("news", news);
    if (!document.hidden && document.hasFocus() && unread && !tell.shown) { tell.shown = setTimeout(() => { unread = ""; tell.shown = 0; }, 8000); }
    document.title = unread ? "● " + unread : busy ? busy + " · GLM Studio" : "GLM Studio";
  }

  // ---- redrawing: the new HTML is compared with the old one, so that focus, selection and open details survive
  const keyOf = (node) => (node.nodeType === 1 ? node.dataset.key : undefined);
  function morph(from, to) {
    const keyed = new Map();
    for (const child of from.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
    let at = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      const key = keyOf(wanted);
      let have = key ? keyed.get(key) : at;
      if (have && !key && (keyOf(have) || have.nodeType !== wanted.nodeType || have.nodeName !== wanted.nodeName)) have = null;
      if (have && have.nodeName !== wanted.nodeName) have = null;
      if (!have) { from.insertBefore(wanted, at); continue; }
      if (have !== at) from.insertBefore(have, at);
      at = have.nextSibling;
      update(have, wanted);
    }
    while (at) { const next = at.nextSibling; at.remove(); at = next; }
  }
  const sent = new WeakMap();  // what a field held when it was sent last
  function update(have, wanted) {
    if (have.nodeType !== 1) { if (have.data !== wanted.data) have.data = wanted.data; return; }
    const settled = have.value === have.defaultValue || have.value === sent.get(have);
    if (have.nodeName === "TEXTAREA" && have.defaultValue !== wanted.defaultValue) {
      have.defaultValue = wanted.defaultValue;
      if (settled && have.value !== wanted.defaultValue) have.value = wanted.defaultValue;
    }
    for (const { name } of [...have.attributes]) {
      if (!wanted.hasAttribute(name) && !(name === "open" && have.nodeName === "DETAILS")) have.removeAttribute(name);
    }
    for (const { name, value } of wanted.attributes) {
      if (have.getAttribute(name) === value || (name === "open" && have.nodeName === "DETAILS")) continue;
      have.setAttribute(name, value);
      // What was typed hides the attribute; what the server made of it is shown once nobody types there.
      if (name === "value" && have.nodeName === "INPUT" && (have.closest("[data-changed]") ? settled : have !== document.activeElement)) have.value = value;
      if (name === "selected") have.selected = true;
    }
    if (!have.isEqualNode(wanted)) morph(have, wanted);
  }
  // Other panels of the same answer may still push it away, on a busy machine late.
  function bringIntoView(find) {
    const look = () => { const found = find(); if (found) found.scrollIntoView({ block: "nearest" }); };
    const watch = new ResizeObserver(look), leave = () => watch.disconnect();
    watch.observe(document.body);
    for (const kind of ["wheel", "touchmove", "keydown", "pointerdown"]) addEventListener(kind, leave, { once: true, passive: true });
    setTimeout(leave, 3000);
  }
  const after = [];  // who looks at a panel once it is drawn
  function panel(element, trigger, watch, props) {
    const slot = element.querySelector(".gs-slot");
    let told = "";  // the answer that was brought into view last
    const draw = () => {
      const parsed = document.createElement("template");
      parsed.innerHTML = props.value || "";
      const scroller = slot.querySelector("[data-scroll]");
      const follow = !scroller || scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 60;
      morph(slot, parsed.content);
      const now = slot.querySelector("[data-scroll]");
      if (now && follow) now.scrollTop = now.scrollHeight;
      const answer = slot.querySelector("[data-in-view]");
      const text = answer ? answer.textContent : "";
      if (text && text !== told) bringIntoView(() => slot.querySelector("[data-in-view]"));
      told = text;
      const frame = slot.querySelector("[data-landing]");
      if (frame) { redraw = (go) => trigger({ go }); arrive(frame.dataset.landing, frame.dataset.lang); tell(frame.dataset); }
      if (arrived) keep(slot);
      mark();
      after.forEach((look) => look(slot));
    };
    draw();
    watch("value", draw);
    element.addEventListener("click", async (event) => {
      const button = event.target.closest("[data-act]");
      if (!button || button.disabled) return;
      if (button.dataset.act === "lang") speak(button.dataset.lang);
      const scope = button.closest("[data-scope]") || slot;
      const boxes = [...scope.querySelectorAll("input[data-tick]:checked")];
      if ("needsTicks" in button.dataset && !boxes.length) { nudge(scope.querySelector("input[data-tick]")); return; }
      const which = boxes.map((box) => box.dataset.tick).join(", ");
      if (button.dataset.confirm && !(await confirmed(button, which))) return;
      button.disabled = true;
      setTimeout(() => { button.disabled = false; }, 700);
      trigger({ ...button.dataset, ticked: boxes.map((box) => box.value), fields: fieldsOf(scope) });
      if (button.dataset.act === "reset") scope.querySelectorAll("input[data-field]").forEach((field) => { field.value = field.defaultValue; });
    });
    const waits = new Map();
    const send = (scope) => {
      clearTimeout(waits.get(scope));
      waits.delete(scope);
      trigger({ act: scope.dataset.live, fields: fieldsOf(scope) });
    };
    element.addEventListener("input", (event) => {
      const scope = event.target.closest("[data-live]");
      if (!scope) return;
      clearTimeout(waits.get(scope));
      waits.set(scope, setTimeout(() => send(scope), 600));
    });
    element.addEventListener("focusout", () => [...waits.keys()].forEach(send));
    // Cells of a spreadsheet fill rows and columns from here on.
    element.addEventListener("paste", (event) => {
      const field = event.target.closest("[data-paste]");
      const text = field ? event.clipboardData.getData("text/plain").slice(0, 1 << 23) : "";
      const several = text.includes("\t") || (field && field.dataset.paste === "rows" && text.trim().includes("\n"));
      if (!several) return;
      event.preventDefault();
      trigger({ act: "paste", at: field.dataset.field, text, fields: fieldsOf(field.closest("[data-scope]")) });
    });
  }
  const differs = (field) => field.nodeName === "SELECT"
    ? [...field.options].some((option) => option.selected && !option.defaultSelected) : field.value !== field.defaultValue;
  const valuesOf = (fields) => Object.fromEntries(fields.map((field) => [field.dataset.field, field.value]));
  // A form with `data-changed` sends only what differs from what the server knows.
  function fieldsOf(scope) {
    const fields = [...scope.querySelectorAll("[data-field]")].filter((field) => !("changed" in scope.dataset) || differs(field));
    fields.forEach((field) => sent.set(field, field.value));
    return valuesOf(fields);
  }
  // What stands in the form and has not come back from the server: Start takes it along.
  function typed() {
    return JSON.stringify(valuesOf([...document.querySelectorAll("[data-typed] [data-field]")].filter(differs)));
  }
  function nudge(box) {
    if (!box) return;
    box.focus();
    const label = box.closest("label") || box;
    label.classList.add("gs-nudge");
    box.addEventListener("change", () => label.classList.remove("gs-nudge"), { once: true });
  }

  // ---- a question before something is stopped or ended
  function confirmed(button, which) {
    const box = document.createElement("dialog");
    box.className = "gs-dialog";
    const text = document.createElement("p");
    text.textContent = button.dataset.confirm.replace("%s", which);
    const row = document.createElement("div");
    const answer = (label, value, look) => {
      const made = document.createElement("button");
      made.type = "button"; made.textContent = label; made.className = "gs-button gs-look-" + look;
      made.addEventListener("click", () => box.close(value));
      row.append(made);
    };
    answer(button.dataset.no, "", "plain");
    answer(button.dataset.yes, "yes", button.classList.contains("gs-look-danger") ? "danger" : "primary");
    box.append(text, row);
    document.body.append(box);
    box.showModal();
    return new Promise((done) => box.addEventListener("close", () => { box.remove(); button.focus(); done(box.returnValue === "yes"); }));
  }

  // ---- files: chosen by a button, or dropped anywhere on the Fine-tune step; gradio's own button sends them
  const filesOf = (event) => (root.dataset.step === "finetune" && event.dataTransfer && [...event.dataTransfer.types].includes("Files"));
  function fileInput(id) {  // gradio puts it before its button
    const before = document.getElementById(id)?.previousElementSibling;
    return before && before.matches("input[type=file]") ? before : null;
  }
  function sending() {
    document.querySelectorAll(".gs-drop").forEach((place) => { place.dataset.busy = place.dataset.sending; });
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-pick]");
    const input = button && fileInput(button.dataset.pick);
    if (!input) return;
    input.value = "";  // the same file may be chosen again
    if (button.closest(".gs-drop")) input.addEventListener("change", sending, { once: true });
    input.click();
  });
  document.addEventListener("dragover", (event) => {
    if (!filesOf(event)) return;
    event.preventDefault();
    root.classList.add("gs-dragging");
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) root.classList.remove("gs-dragging"); });
  document.addEventListener("drop", (event) => {
    root.classList.remove("gs-dragging");
    if (!filesOf(event)) return;
    event.preventDefault();
    const input = fileInput("finetune-files");
    if (!input || !event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    sending();
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });

  // ---- one listener for what needs no server
  document.addEventListener("click", (event) => {
    if (event.target.closest("#finetune-start") && "Notification" in window && Notification.permission === "default") {
      Notification.requestPermission();  // only a click may ask
    }
    const target = event.target.closest("[data-go], [data-theme-toggle], [data-copy], [data-say], [data-tick-all]");
    if (!target) return;
    if (target.dataset.go) { show(target.dataset.go); scrollTo({ top: 0 }); }
    if ("themeToggle" in target.dataset) { remember("theme", theme() === "dark" ? "light" : "dark"); paint(); }
    if ("copy" in target.dataset) copy(target);
    if ("tickAll" in target.dataset) tickAll(target);
  });
  function tickAll(button) {  // and a second time: none
    const boxes = [...button.closest("section").querySelectorAll("input[data-tick]:not([data-by-hand])")];
    const on = boxes.some((box) => !box.checked);
    boxes.forEach((box) => { box.checked = on; });
  }
  async function copy(button) {
    const label = button.textContent;
    await navigator.clipboard.writeText(button.parentElement.querySelector("code, pre").textContent);
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; }, 1500);
  }
  // An answer that has just begun may be on the page before its Stop is.
  function stopAnswer(tries = 50) {
    const stop = document.querySelector("#chat-stop");
    if (!stop || !stop.offsetParent) return;
    if (!stop.disabled) stop.click();
    else if (tries && document.querySelector("#panel-chat :is(.gs-allow, .gs-caret, .gs-chip.gs-running)")) setTimeout(() => stopAnswer(tries - 1), 100);
  }
  document.addEventListener("keydown", (event) => {
    const composer = event.target.closest && event.target.closest("#chat-input");
    // Enter that ends the choice of a Chinese character is not Enter that sends.
    if (composer && event.key === "Enter" && (event.isComposing || event.keyCode === 229)) event.stopPropagation();
    if (event.key === "Escape" && root.dataset.step === "chat" && !document.querySelector("dialog[open]")) {
      stopAnswer();
    }
  }, true);

  // ---- each second the studio is asked whether anything has changed, and drawn anew only then. While nothing runs and
  // nobody touches the page, it is asked every three seconds, and figures that waver, such as free memory, are drawn
  // every nine; a page that nobody sees asks every five. This also tells whether the studio still answers, and whether it
  // is another start of it, whose page this is not.
  const SECOND = 1000, UNSEEN = 5, CALM = 3, WAVERING = 9000, PATIENCE = 8000, AWAKE = 10_000;
  let beat = () => {}, visit = "", start = "", asking = false, missed = 0, seconds = 0, touched = Date.now(), beaten = 0;
  for (const kind of ["pointerdown", "keydown", "input"]) document.addEventListener(kind, () => { touched = Date.now(); }, true);
  const lively = () => Date.now() - touched < AWAKE || Boolean(document.querySelector(
    `.gs-rail .gs-chip.gs-running, #step-${root.dataset.step} :is(.gs-chip.gs-running, .gs-busy, .gs-run-progress, .gs-caret)`));
  function clock(refresh, watch, props) {
    const note = () => { visit = props.value || ""; };
    beat = refresh;
    note();
    watch("value", note);
  }
  async function ask() {
    if (asking) return;
    asking = true;
    let status = 0, changed = false;
    try {
      const about = new URLSearchParams({ visit, step: root.dataset.step });
      const reply = await fetch("/changed?" + about, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      status = reply.status;
      changed = status === 200 && (await reply.text()) === "1";
      const now = reply.headers.get("x-studio-start");
      if (status === 200 && start && start !== now) { location.reload(); return; }
      start = now || start;
    } catch { /* away */ }
    asking = false;
    missed = status === 200 ? 0 : missed + 1;
    root.classList.toggle("gs-away", missed > 1);
    root.classList.toggle("gs-renewed", status === 403);
    if (changed && (lively() || Date.now() - beaten >= WAVERING)) { beaten = Date.now(); beat(); }
  }
  setInterval(() => { if (++seconds % (document.hidden ? UNSEEN : missed || lively() ? 1 : CALM) === 0) ask(); }, SECOND);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { touched = Date.now(); ask(); } });

  root.classList.add("gs-wait");
  root.dataset.step = steps.includes(location.hash.slice(1)) ? location.hash.slice(1) : "doctor";
  addEventListener("hashchange", () => show(location.hash.slice(1)));
  paint();
  document.addEventListener("DOMContentLoaded", () => {
    paint();
    new MutationObserver(paint).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });
  // A page that never hears from its server must not stay hidden.
  setTimeout(() => root.classList.remove("gs-wait"), 8000);
  return { panel, show, step: () => root.dataset.step, typed, kept, clock, afterDraw: (look) => after.push(look) };
})();
