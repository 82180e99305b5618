// The composer: the text leaves the box at once, what is typed meanwhile stays, and no question is lost on its way.
"use strict";
(() => {
  const KEPT = "glmstudio.outbox", DRAFT = "glmstudio.draft", SLOW = 10_000, LOST = 3_000;  // milliseconds
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

  // gradio loads the page anew once a lost connection is back: what stands in the box survives that.
  let restored = false;
  document.addEventListener("input", (event) => {
    if (!event.target.closest || !event.target.closest("#chat-input")) return;
    try { sessionStorage.setItem(DRAFT, event.target.value); } catch { /* private window */ }
  });
  function restore() {
    if (restored || !box()) return;
    restored = true;
    let draft = "";
    try { draft = sessionStorage.getItem(DRAFT) || ""; } catch { /* private window */ }
    if (draft && !box().value) write(draft);
  }

  // Send and Enter take the text before gradio hears of them; what it then calls hands on what was taken.
  const taken = [];
  function take() {
    const text = box() ? box().value : "";
    if (!text.trim()) return;
    const mark = newMark();
    outbox[mark] = { text, at: Date.now() };
    save();
    taken.push(mark);
    write("");
    const log = document.querySelector(".gs-chatlog");
    if (log) log.scrollTop = log.scrollHeight;
  }
  studio.compose = (state) => {
    const mark = taken.shift();
    return [state, outbox[mark] ? JSON.stringify({ mark, text: outbox[mark].text }) : ""];
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest && event.target.closest("#chat-send")) take();
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.closest || !event.target.closest("#chat-input")) return;
    if (event.shiftKey || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    event.stopPropagation();
    document.querySelector("#chat-send").click();
  }, true);

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
      const age = Date.now() - Math.max(outbox[mark].at, began), soon = away || outbox[mark].at < began;
      if (asked.has(mark)) delete outbox[mark];
      else if (back.has(mark) || (!waiting.has(mark) && age > (soon ? LOST : SLOW))) giveBack(mark);
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
    restore();
    settle();
    attend();
  });
})();
