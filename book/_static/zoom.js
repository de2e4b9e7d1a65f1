// A click on a figure, or Enter while it has the focus, opens it as wide as the window, and on a
// narrow one wider, so that its text can be read by scrolling.
function openLarge(image) {
  const dialog = document.createElement("dialog");
  dialog.className = "large-figure";
  dialog.append(image.cloneNode());
  dialog.firstChild.removeAttribute("tabindex");
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll(".bd-article figure img, .bd-article .cell_output img")) {
    if (image.closest("a, .frame-slider, .frame-menus")) continue;
    image.tabIndex = 0;
    image.title = "Enlarge";
    image.addEventListener("click", () => openLarge(image));
    image.addEventListener("keydown", (event) => {
      if (event.key === "Enter") openLarge(image);
    });
  }
});
