// The composer: the text leaves the box at once, what is typed meanwhile stays, and no question is lost on its way.
"use strict";
(() => {
  const KEPT = "glmstudio.outbox", SLOW = 10_000, LOST = 3_000;  // milliseconds
  const box = () => document.querySelector("#chat-input textarea");
  const marks = (name) => {
    const told = document.querySelector("[data-asked]");
    return new Set(told ? told.dataset[name].split(" ").filter(Boolean) : []);
  };
  let outbox = {};  // by mark: questions of which the server has not said that they are in a conversation
  try { outbox = JSON.parse(sessionStorage.getItem(KEPT)) || {}; } catch { /* private window */ }
  const began = Date.now(), returned = new Map();

  function write(text) {
    const area = box();
    if (!area) return;
    area.value = text;
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }
  function save() {
    try { sessionStorage.setItem(KEPT, JSON.stringify(outbox)); } catch { /* private window */ }
  }
  function newMark() {
    return [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // What Send and Enter send instead of the box's text.
  studio.compose = (state, seen, value) => {
    const text = box() ? box().value : value;
    if (!text.trim()) return [state, seen, ""];
    const mark = newMark();
    outbox[mark] = { text, at: Date.now() };
    save();
    write("");
    const log = document.querySelector(".gs-chatlog");
    if (log) log.scrollTop = log.scrollHeight;
    return [state, seen, JSON.stringify({ mark, text })];
  };

  function giveBack(mark) {
    const { text } = outbox[mark];
    delete outbox[mark];
    const now = box() ? box().value : "";
    write(now.trim() ? text + "\n" + now : text);
    returned.set(mark, text);
  }
  function settle() {
    const ids = Object.keys(outbox);
    const asked = marks("asked");
    for (const [mark, text] of returned) {
      // It came back because nobody answered in time, and was asked after all.
      if (asked.has(mark)) { returned.delete(mark); if (box() && box().value === text) write(""); }
    }
    if (!ids.length || !document.querySelector("[data-asked]") || !box()) return;
    const waiting = marks("waiting"), back = marks("returned");
    const away = document.documentElement.classList.contains("gs-away");
    for (const mark of ids) {
      const age = Date.now() - Math.max(outbox[mark].at, began);
      if (asked.has(mark)) delete outbox[mark];
      else if (back.has(mark) || (!waiting.has(mark) && age > (away ? LOST : SLOW))) giveBack(mark);
    }
    save();
  }
  setInterval(settle, 1000);

  // ---- a tool call that waits for a word: in view, and with the focus unless somebody is typing
  let asking = "";
  function attend() {
    const choice = document.querySelector("#panel-chat .gs-allow");
    const card = choice && choice.closest(".gs-call");
    const before = asking;
    asking = card ? card.dataset.key : "";
    if (document.documentElement.dataset.step !== "chat" || asking === before) return;
    const nowhere = !document.activeElement || document.activeElement === document.body;
    if (card) {
      card.scrollIntoView({ block: "nearest" });
      if (!box() || !box().value.trim()) card.focus({ preventScroll: true });
    } else if (nowhere && box()) box().focus();
  }
  studio.afterDraw((slot) => {
    if (!slot.closest("#panel-chat, #panel-chat-problem")) return;
    settle();
    attend();
  });
})();
