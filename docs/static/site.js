/* What can be moved sideways is a stop of the Tab key, so that it can be moved without a mouse in every browser.
   A tab that is chosen ("change") shows more of it. */
const movable = '[role="main"] .table-wrapper.container, p:has(> img[src$=".svg"]), .highlight pre';

function stopAtWhatMoves() {
  for (const one of document.querySelectorAll(movable)) {
    if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
    else one.removeAttribute("tabindex");
  }
}

for (const event of ["load", "resize", "change"]) addEventListener(event, stopAtWhatMoves);
