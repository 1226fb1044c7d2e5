// Lights up one step after the other: forward from the first to the last, then backward. Without it all is shown.
for (const part of document.querySelectorAll(".mr-explain")) {
  const controls = part.querySelector(".controls");
  if (!controls) continue;
  const forward = [...part.querySelectorAll(".forward-steps > [data-step]")];
  const backward = [...part.querySelectorAll(".backward-steps > [data-step]")];
  const items = [...forward, ...backward];
  const said = controls.querySelector(".said");
  const card = controls.querySelector(".card"); // the step's own text, where the graph can be seen beside it
  const hint = "Press Next, or the arrow keys, to go through the steps: forward, then backward.";
  let at = -1; // -1: everything at once

  const show = (next) => {
    at = Math.max(-1, Math.min(items.length - 1, next));
    const item = items[at];
    const isBack = at >= forward.length;
    items.forEach((each) => each.classList.toggle("now", each === item));
    const step = item ? Number(item.dataset.step) : null;
    for (const node of part.querySelectorAll("[data-node]")) {
      node.classList.toggle("now", Number(node.dataset.node) === step);
      node.classList.toggle("later", step !== null && !isBack && Number(node.dataset.node) > step);
    }
    for (const edge of part.querySelectorAll("svg [data-step]")) {
      edge.classList.toggle("later", step !== null && (!isBack || Number(edge.dataset.step) < step));
    }
    const where = item ? `${isBack ? "Backward" : "Forward"}, ${at + 1} of ${items.length}` : "";
    said.textContent = item ? `${where}. ${item.dataset.said}` : hint;
    card.replaceChildren(...(item ? item.cloneNode(true).childNodes : []));
    card.querySelectorAll("details").forEach((each) => each.remove());
    card.dataset.where = where;
    controls.classList.toggle("stepping", Boolean(item));
    // not `disabled`, which would take the keyboard's focus away
    controls.querySelector('[data-go="-1"]').setAttribute("aria-disabled", at < 0);
    controls.querySelector('[data-go="1"]').setAttribute("aria-disabled", at === items.length - 1);
  };

  controls.addEventListener("click", (event) => {
    const go = event.target.dataset?.go;
    if (go !== undefined) show(go === "0" ? -1 : at + Number(go));
  });
  controls.addEventListener("keydown", (event) => {
    const go = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!go) return;
    event.preventDefault();
    show(at + go);
  });
  controls.hidden = false;
  show(-1);
}
