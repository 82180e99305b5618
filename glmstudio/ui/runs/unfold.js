// A button with `data-unfold` opens the fold of that name beside it and brings it into view: no server needed.
"use strict";
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-unfold]");
  if (!button) return;
  const fold = button.closest(".gs-slot").querySelector(`details[data-key="${CSS.escape(button.dataset.unfold)}"]`);
  if (!fold) return;
  fold.open = true;
  fold.scrollIntoView({ block: "nearest" });
  (fold.querySelector(".gs-folded :is(input, button, a)") || fold.querySelector("summary")).focus({ preventScroll: true });
});
