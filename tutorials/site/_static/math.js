// Turns the TeX of the page into formulas. Without this script, or where it cannot read one, the TeX stays.
const places = [...document.querySelectorAll(".math.inline, .math.display")];
for (const place of places) {
  const tex = place.textContent.trim().slice(2, -2);
  try {
    katex.render(tex, place, { displayMode: place.classList.contains("display"), strict: false });
  } catch (error) {
    console.error(`${location.pathname}: KaTeX cannot read ${tex}: ${error.message}`);
  }
}

// A formula that is wider than the screen is scrolled by its own bar, which the keyboard must reach; others are not stops.
function stops() {
  for (const place of places.filter((each) => each.classList.contains("display"))) {
    if (place.scrollWidth > place.clientWidth) place.tabIndex = 0;
    else place.removeAttribute("tabindex");
  }
}
document.fonts.ready.then(stops);
addEventListener("resize", stops);
