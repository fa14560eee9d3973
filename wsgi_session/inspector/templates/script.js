"use strict";
(() => {
  const tools = document.querySelector(".tools");
  const main = document.querySelector("main");
  const button = document.createElement("button");
  let isPaused = false;

  function show() {
    button.textContent = isPaused ? "Go on" : "Pause";
    button.title = isPaused ? "This page stands still" : "New requests come in by themselves";
  }

  function isInUse() {
    const active = document.activeElement;
    const isTyping = main.contains(active) && active.matches("input");
    return isPaused || isTyping || document.hidden || String(getSelection()) !== "" || main.querySelector("details[open]");
  }

  function placeOf(element) {
    const places = [...main.querySelectorAll("a, button, summary")];
    return main.contains(element) ? [element.getAttribute("href"), places.indexOf(element)] : null;
  }

  function focusAt([href, index]) {
    const places = [...main.querySelectorAll("a, button, summary")];
    const again = places.find(one => href !== null && one.getAttribute("href") === href) ?? places[index];
    if (again) again.focus({ preventScroll: true });
  }

  async function renew() {
    if (isInUse()) return true;
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!response.ok) return false;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("main");
    if (fresh && fresh.innerHTML !== main.innerHTML && !isInUse()) {
      const place = placeOf(document.activeElement);
      main.replaceChildren(...fresh.childNodes);
      if (place) focusAt(place);
    }
    return true;
  }

  async function live() {
    const isThere = await renew().catch(() => true);
    if (isThere) setTimeout(live, 1500);
    else button.remove();
  }

  button.type = "button";
  button.addEventListener("click", () => { isPaused = !isPaused; show(); });
  show();
  tools.append(button);
  setTimeout(live, 1500);
})();
