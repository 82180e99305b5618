// The chart of a run: values under the pointer, smoothing, a log scale, zoom. The server sends data in an attribute;
// all that is drawn lives in a shadow tree, which the redrawing of the page does not see, so zoom and pointer survive.
"use strict";
(() => {
  const HEIGHT = 250, LETTER = 8, LEFT = 52, RIGHT = 14, TOP = 10, BOTTOM = 26, NEAR = 5;
  const STYLE = `
    :host { display: block; position: relative; color: var(--gs-text); }
    svg { display: block; width: 100%; height: ${HEIGHT}px; touch-action: pan-y; cursor: crosshair; border-radius: 8px; }
    svg:focus-visible { outline: 3px solid var(--gs-accent); outline-offset: 2px; }
    text { font-size: 12px; fill: var(--gs-muted); font-variant-numeric: tabular-nums; }
    .gs-grid { stroke: var(--gs-line); fill: none; }
    .gs-raw { fill: none; stroke: var(--gs-line-colour); stroke-opacity: .35; }
    .gs-mean { fill: none; stroke: var(--gs-line-colour); stroke-width: 2.2; stroke-linejoin: round; }
    circle { fill: var(--gs-line-colour); }
    .gs-line-0 { --gs-line-colour: var(--gs-accent); } .gs-line-1 { --gs-line-colour: var(--gs-attention); }
    .gs-line-2 { --gs-line-colour: var(--gs-note); } .gs-line-3 { --gs-line-colour: var(--gs-bad); }
    .gs-line-1 .gs-mean { stroke-dasharray: 7 3; } .gs-line-2 .gs-mean { stroke-dasharray: 2 3; }
    .gs-line-3 .gs-mean { stroke-dasharray: 9 3 2 3; }
    .rule { stroke: var(--gs-line-strong); } .zone { fill: var(--gs-accent); fill-opacity: .15; }
    .row { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 16px; font-size: 13px; color: var(--gs-muted); }
    .row label { display: inline-flex; align-items: center; gap: 6px; min-height: 24px; }
    .row input { accent-color: var(--gs-accent); margin: 0; height: 24px; } .row input[type=range] { width: 96px; }
    .row input[type=checkbox] { width: 17px; } .row :focus-visible { outline: 3px solid var(--gs-accent); outline-offset: 2px; }
    button { font: inherit; font-weight: 600; min-height: 26px; padding: 2px 10px; border: 1px solid var(--gs-line-strong); border-radius: 8px; background: var(--gs-surface); color: var(--gs-text); cursor: pointer; }
    .gs-key { display: inline-flex; align-items: center; gap: 6px; overflow-wrap: anywhere; }
    .gs-key i { flex: none; width: 27px; height: 3px; background: var(--gs-line-colour); }
    .gs-line-1 > i { background: repeating-linear-gradient(90deg, var(--gs-line-colour) 0 7px, transparent 7px 10px); }
    .gs-line-2 > i { background: repeating-linear-gradient(90deg, var(--gs-line-colour) 0 2px, transparent 2px 5px); }
    .gs-line-3 > i { background: repeating-linear-gradient(90deg, var(--gs-line-colour) 0 9px, transparent 9px 12px, var(--gs-line-colour) 12px 14px, transparent 14px 17px); }
    .spread { margin-left: auto; } [hidden] { display: none !important; }
    .values { position: absolute; top: ${TOP}px; pointer-events: none; max-width: 60%; padding: 6px 10px; border-radius: 8px; border: 1px solid var(--gs-line-strong); background: var(--gs-surface); font-size: 12.5px; line-height: 1.45; font-variant-numeric: tabular-nums; box-shadow: var(--gs-shadow); }
    .values b { display: block; } .values .gs-key { display: flex; }`;
  const SVG = "http://www.w3.org/2000/svg";
  const svg = (name, attributes, text) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const html = (name, properties, ...inner) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...inner);
    return made;
  };
  const kept = (name) => { try { return JSON.parse(localStorage.getItem("glmstudio.chart." + name)) || {}; } catch { return {}; } };
  const keep = (name, value) => { try { localStorage.setItem("glmstudio.chart." + name, JSON.stringify(value)); } catch { /* private window */ } };

  // An exponential moving average with bias correction.
  function smooth(ys, weight) {
    let mean = 0;
    return ys.map((y, at) => { mean = weight * mean + (1 - weight) * y; return mean / (1 - weight ** (at + 1)); });
  }
  function ticks(low, high, about) {
    const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
    const out = [];
    for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) out.push(Number((at * step).toPrecision(12)));
    return out;
  }
  function logTicks(low, high) {
    const out = [], wide = Math.log10(high / low);
    if (wide < 0.5) return ticks(low, high, 4).filter((each) => each > 0);
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const factor of wide > 3 ? [1] : [1, 2, 5]) out.push(factor * 10 ** power);
    }
    return out.filter((each) => each >= low && each <= high);
  }
  const figure = (value) => Math.abs(value) >= 1e6 || (value && Math.abs(value) < 1e-4) ? value.toExponential(2) : String(Number(value.toPrecision(5)));

  class Chart extends HTMLElement {
    static observedAttributes = ["data-chart"];

    connectedCallback() {
      if (this.shadowRoot) return;
      this.view = null; this.at = null; this.drag = null;
      this.chosen = { smooth: 0.8, log: false, ...kept(this.dataset.key) };
      const root = this.attachShadow({ mode: "open" });
      this.plot = svg("svg", { role: "img", tabindex: 0 });
      this.values = html("div", { className: "values", hidden: true });
      this.values.setAttribute("role", "status");
      this.smoothing = html("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: this.chosen.smooth });
      this.log = html("input", { type: "checkbox", checked: this.chosen.log });
      this.reset = html("button", { type: "button", hidden: true, onclick: () => this.zoom(null) });
      this.keys = html("span", { className: "row" });
      this.names = { smoothing: html("span"), log: html("span"), x: html("span", { className: "spread" }) };
      this.smoothLabel = html("label", {}, this.names.smoothing, this.smoothing);
      root.append(
        html("style", { textContent: STYLE }), this.plot, this.values,
        html("div", { className: "row" }, this.keys, this.names.x),
        html("div", { className: "row" }, this.smoothLabel, html("label", {}, this.log, this.names.log), this.reset),
      );
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.plot);
      this.read();
    }
    attributeChangedCallback() { if (this.shadowRoot) this.read(); }

    read() {
      let told;
      try { told = JSON.parse(this.dataset.chart); } catch { return; }
      const { words, lines } = told;
      this.told = told;
      this.lines = lines.map(([name, look, xs, ys], at) => ({ name, look, xs, ys, index: at % 4 }));
      this.plot.setAttribute("aria-label", this.dataset.label);
      this.plot.replaceChildren(svg("title", {}, words.hint));
      this.names.smoothing.textContent = words.smoothing;
      this.names.log.textContent = words.log;
      this.names.x.textContent = told.x;
      this.reset.textContent = words.whole;
      this.smoothLabel.hidden = !this.lines.some((line) => line.look === "noisy" || line.look === "mean");
      this.keys.replaceChildren(...this.lines.map((line) => this.key(line, line.name)));
      this.draw();
    }
    key(line, text) {
      return html("span", { className: "gs-key gs-line-" + line.index }, html("i"), html("span", { textContent: text }));
    }

    // ---- what is seen: the whole curve or a part of its steps
    zoom(view) {
      const [first, last] = this.whole();
      if (view) view = [Math.max(first, view[0]), Math.min(last, view[1])];
      this.view = view && view[1] - view[0] > (last - first) / 1e5 && (view[0] > first || view[1] < last) ? view : null;
      this.reset.hidden = !this.view;
      this.draw();
    }
    whole() {
      const firsts = this.lines.map((line) => line.xs[0]), lasts = this.lines.map((line) => line.xs[line.xs.length - 1]);
      const last = Math.max(this.told.last, ...lasts);
      return [Math.min(...firsts, last - 1), last];
    }
    span(shown) {
      const [first, last] = this.view || this.whole();
      let low = Infinity, high = -Infinity;
      for (const { xs, drawn } of shown) {
        for (const ys of drawn) {
          xs.forEach((x, at) => {
            if (x < first || x > last || (this.chosen.log && ys[at] <= 0)) return;
            low = Math.min(low, ys[at]); high = Math.max(high, ys[at]);
          });
        }
      }
      if (!Number.isFinite(low)) [low, high] = [0.1, 1];
      if (this.chosen.log) return { first, last, low: low / 1.1, high: high * 1.1 };
      const pad = (high - low) * 0.05 || 0.5;
      return { first, last, low: low >= 0 && low < (high - low) * 0.4 ? 0 : low - pad, high: high + pad };
    }

    // ---- drawing
    draw() {
      const width = this.plot.clientWidth;
      if (!width || !this.told) return;
      const weight = this.chosen.smooth;
      const shown = this.lines.map((line) => {
        const mean = line.look === "noisy" || line.look === "mean" ? smooth(line.ys, weight) : line.ys;
        return { ...line, mean, drawn: line.look === "noisy" ? [line.ys, mean] : [mean] };
      });
      const span = this.span(shown), level = this.chosen.log ? Math.log : (value) => value;
      const levels = this.levels(span), longest = Math.max(...levels.map((value) => figure(value).length));
      const start = Math.max(LEFT, longest * LETTER + 12), wide = width - start - RIGHT, tall = HEIGHT - TOP - BOTTOM;
      this.scale = {
        width, left: start, x: (x) => start + wide * (x - span.first) / (span.last - span.first),
        y: (y) => TOP + tall * (level(span.high) - level(y)) / (level(span.high) - level(span.low)),
        step: (px) => span.first + (px - start) / wide * (span.last - span.first),
      };
      this.shown = shown;
      const title = this.plot.querySelector("title");
      const clip = svg("clipPath", { id: "plot" });
      clip.append(svg("rect", { x: start - NEAR, y: 0, width: Math.max(0, wide + 2 * NEAR), height: HEIGHT - BOTTOM + NEAR }));
      const group = svg("g", { "clip-path": "url(#plot)" });
      group.append(...shown.map((line) => this.line(line, span)));
      this.over = svg("g");
      this.plot.replaceChildren(title, clip, ...this.axes(span, levels), group, this.over);
      this.point();
    }
    levels({ low, high }) { return this.chosen.log ? logTicks(low, high) : ticks(low, high, 4); }
    axes(span, levels) {
      const { width, left, x, y } = this.scale, parts = [];
      for (const value of levels) {
        parts.push(svg("path", { class: "gs-grid", d: `M${left} ${y(value)}H${width - RIGHT}` }));
        parts.push(svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, figure(value)));
      }
      for (const value of ticks(span.first, span.last, Math.max(2, Math.min(7, Math.floor(width / 90))))) {
        const text = String(value), half = text.length * LETTER / 2, at = Math.min(x(value), width - half);
        parts.push(svg("text", { x: at, y: HEIGHT - 8, "text-anchor": "middle" }, text));
      }
      return parts;
    }
    line({ xs, ys, mean, look, index }, span) {
      const { x, y } = this.scale, log = this.chosen.log;
      const path = (values) => {
        let d = "", pen = "M";
        xs.forEach((step, at) => {
          if (log && values[at] <= 0) { pen = "M"; return; }
          d += `${pen}${x(step).toFixed(1)} ${y(values[at]).toFixed(1)}`; pen = "L";
        });
        return d;
      };
      const made = svg("g", { class: "gs-line-" + index });
      if (look === "noisy") made.append(svg("path", { class: "gs-raw", d: path(ys) }));
      made.append(svg("path", { class: "gs-mean", d: path(mean) }));
      const inside = xs.map((_, at) => at).filter((at) => xs[at] >= span.first && xs[at] <= span.last && !(log && mean[at] <= 0));
      if (look === "dots" || inside.length === 1) {
        made.append(...inside.map((at) => svg("circle", { cx: x(xs[at]), cy: y(mean[at]), r: 3.2 })));
      }
      return made;
    }

    // ---- the values under the pointer, and the part that is being chosen
    point() {
      const { over, scale } = this, parts = [];
      if (!over) return;
      if (this.drag && this.drag.to !== undefined) {
        const [from, to] = [scale.x(this.drag.from), scale.x(this.drag.to)].sort((one, other) => one - other);
        parts.push(svg("rect", { class: "zone", x: from, y: TOP, width: to - from, height: HEIGHT - TOP - BOTTOM }));
      }
      const near = this.at === null ? [] : this.shown.map((line) => ({ line, at: nearest(line.xs, this.at) }));
      const step = near.length ? near.map(({ line, at }) => line.xs[at]).reduce((one, other) => Math.abs(other - this.at) < Math.abs(one - this.at) ? other : one) : null;
      this.values.hidden = step === null;
      if (step !== null) {
        parts.push(svg("path", { class: "rule", d: `M${scale.x(step)} ${TOP}V${HEIGHT - BOTTOM}` }));
        const rows = [];
        for (const { line, at } of near) {
          if (Math.abs(scale.x(line.xs[at]) - scale.x(step)) > NEAR) continue;
          const mean = line.mean[at], smoothed = line.look !== "dots" && line.mean !== line.ys && this.chosen.smooth > 0;
          rows.push(this.key(line, `${line.name}: ${figure(line.ys[at])}` + (smoothed ? ` (${this.told.words.smoothed} ${figure(mean)})` : "")));
          if (!this.chosen.log || mean > 0) parts.push(svg("circle", { class: "gs-line-" + line.index, cx: scale.x(line.xs[at]), cy: scale.y(mean), r: 4.5 }));
        }
        this.values.replaceChildren(html("b", { textContent: `${this.told.x} ${step}` }), ...rows);
        const right = scale.x(step) > scale.width / 2;
        this.values.style.left = right ? "auto" : scale.x(step) + 12 + "px";
        this.values.style.right = right ? scale.width - scale.x(step) + 12 + "px" : "auto";
      }
      over.replaceChildren(...parts);
    }
    listen() {
      const { plot } = this;
      const stepAt = (event) => this.scale.step(Math.min(this.scale.width - RIGHT, Math.max(this.scale.left, event.clientX - plot.getBoundingClientRect().left)));
      plot.addEventListener("pointermove", (event) => {
        if (!this.scale) return;
        this.at = stepAt(event);
        if (this.drag) this.drag.to = this.at;
        this.point();
      });
      plot.addEventListener("pointerleave", () => { if (!this.drag) { this.at = null; this.point(); } });
      plot.addEventListener("pointerdown", (event) => {
        if (event.button || !this.scale || event.pointerType === "touch") return;
        this.drag = { from: stepAt(event) };
        plot.setPointerCapture(event.pointerId);
      });
      plot.addEventListener("pointerup", () => {
        const { from, to } = this.drag || {};
        this.drag = null;
        if (to !== undefined && Math.abs(this.scale.x(to) - this.scale.x(from)) > 2 * NEAR) this.zoom([Math.min(from, to), Math.max(from, to)]);
        else this.point();
      });
      plot.addEventListener("pointercancel", () => { this.drag = null; this.point(); });
      plot.addEventListener("dblclick", () => this.zoom(null));
      plot.addEventListener("keydown", (event) => this.press(event));
      plot.addEventListener("blur", () => { this.at = null; this.point(); });
      this.smoothing.addEventListener("input", () => this.choose({ smooth: Number(this.smoothing.value) }));
      this.log.addEventListener("change", () => this.choose({ log: this.log.checked }));
    }
    choose(change) {
      Object.assign(this.chosen, change);
      keep(this.dataset.key, this.chosen);
      this.draw();
    }
    press(event) {
      const [first, last] = this.view || this.whole(), middle = this.at ?? (first + last) / 2, xs = this.lines[0].xs;
      const walk = (by) => {
        const at = this.at === null ? xs.length - 1 : nearest(xs, this.at) + by;
        this.at = xs[Math.max(0, Math.min(xs.length - 1, at))];
        this.point();
      };
      const grow = (factor) => this.zoom([middle - (middle - first) * factor, middle + (last - middle) * factor]);
      const keys = { ArrowLeft: () => walk(-1), ArrowRight: () => walk(1), "+": () => grow(0.5), "-": () => grow(2), 0: () => this.zoom(null) };
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    }
  }
  function nearest(xs, wanted) {
    let low = 0, high = xs.length - 1;
    while (low < high) { const middle = (low + high) >> 1; if (xs[middle] < wanted) low = middle + 1; else high = middle; }
    return low && wanted - xs[low - 1] < xs[low] - wanted ? low - 1 : low;
  }
  customElements.define("gs-chart", Chart);
})();
