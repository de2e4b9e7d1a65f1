// The widgets' script calls MathJax 2 for every label. Labels have no formulas, and the book has
// MathJax 3, so the call does nothing instead of ending in an error.
(() => {
  const withHub = (value) => {
    if (value && !value.Hub) value.Hub = { Queue() {} };
    return value;
  };
  let current = withHub(window.MathJax);
  Object.defineProperty(window, "MathJax", {
    configurable: true,
    get: () => current,
    set: (value) => (current = withHub(value)),
  });
})();

// Names for the controls of gainbook.render.widgets.frame_slider. ipywidgets gives its buttons and
// its slider handle none, and announces the number of a frame instead of the value beside the slider.
function nameControls(box) {
  const [play, stop] = box.querySelectorAll(".widget-play button");
  const handle = box.querySelector("[role=slider]");
  const label = box.querySelector(".widget-hslider .widget-label");
  const value = box.querySelector(".widget-readout");
  if (!(stop && handle && label && value)) return; // not rendered yet
  box.dataset.named = "";
  play.setAttribute("aria-label", `Play or pause: ${label.textContent}`);
  stop.setAttribute("aria-label", `Stop: ${label.textContent}`);
  handle.setAttribute("aria-label", label.textContent);
  const announce = () => {
    if (handle.getAttribute("aria-valuetext") !== value.textContent)
      handle.setAttribute("aria-valuetext", value.textContent);
  };
  announce();
  const observer = new MutationObserver(announce);
  observer.observe(value, { childList: true });
  observer.observe(handle, { attributeFilter: ["aria-valuetext"] }); // the slider writes the number
}
new MutationObserver(() =>
  document.querySelectorAll(".frame-slider:not([data-named])").forEach(nameControls),
).observe(document.documentElement, { childList: true, subtree: true });
